import assert from 'node:assert/strict';
import type { LabGuest } from '../../lab/guest/guest.ts';
import { problems } from '../../lab/guest/records.ts';

/** Checks both disks' records from inside. */
export async function assertRecordsGood(guest: LabGuest): Promise<void> {
  assert.deepEqual(problems(await guest.checkInside()), []);
}
