import assert from 'node:assert/strict';
import type { LabGuest } from '../../lab/guest/guest.ts';
import { type RecordsReport, problems } from '../../lab/guest/records.ts';

/** Checks both disks' records from inside, with the workload stopped meanwhile: both files are read at one instant. */
export async function assertRecordsGood(guest: LabGuest): Promise<void> {
  const script = 'p=$(cat /run/records.pid); kill -STOP $p && check-records; code=$?; kill -CONT $p; exit $code';
  const { code, stdout, stderr } = await guest.agent.exec(['/bin/sh', '-c', script]);
  assert.equal(code, 0, stderr);
  assert.deepEqual(problems(JSON.parse(stdout) as RecordsReport), []);
}
