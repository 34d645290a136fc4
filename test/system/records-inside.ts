import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import type { LabGuest } from '../../lab/guest/guest.ts';
import { type RecordsReport, problems } from '../../lab/guest/records.ts';

/** Checks both disks' records from inside, with the workload stopped meanwhile: both files are read at one instant. */
export async function assertRecordsGood(guest: LabGuest): Promise<void> {
  const script = 'p=$(cat /run/records.pid); kill -STOP $p && check-records; code=$?; kill -CONT $p; exit $code';
  const { code, stdout, stderr } = await guest.agent.exec(['/bin/sh', '-c', script]);
  if (code !== 0) assert.fail(`${stderr}\n${lastOfConsole(guest)}`);
  assert.deepEqual(problems(JSON.parse(stdout) as RecordsReport), []);
}

/** The end of what the guest's kernel and workload said; a copy of the guest speaks where its model does. */
function lastOfConsole(guest: LabGuest): string {
  const file = guest.host.path(guest.console);
  if (!existsSync(file)) return '';
  return readFileSync(file, 'utf8').split('\n').slice(-40).join('\n');
}
