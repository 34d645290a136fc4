import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { LabGuest } from '../../lab/guest/guest.ts';
import { type RecordsReport, problems } from '../../lab/guest/records.ts';

/** Checks both disks' records from inside, with the workload stopped meanwhile: both files are read at one instant. */
export async function assertRecordsGood(guest: LabGuest): Promise<void> {
  const script = 'p=$(cat /run/records.pid); kill -STOP $p && check-records; code=$?; kill -CONT $p; exit $code';
  const { code, stdout, stderr } = await guest.agent.exec(['/bin/sh', '-c', script]);
  assert.equal(code, 0, `${stderr}\n${lastOfConsole(guest)}`);
  assert.deepEqual(problems(JSON.parse(stdout) as RecordsReport), []);
}

/** The end of what the guest's kernel and workload said. */
function lastOfConsole(guest: LabGuest): string {
  return readFileSync(guest.host.path(guest.console), 'utf8').split('\n').slice(-40).join('\n');
}
