/** Stands in for `failover/lease-note.ts`: a note of a lease is lost with a boot, and may be read by the guard. */
import type { LeaseNote } from '../../../src/failover/lease-note.ts';
import { lifeAt } from '../stage.ts';

export async function readLease(directory: string): Promise<LeaseNote | undefined> {
  const life = lifeAt(directory);
  life.live();
  return life.here.lease ?? undefined;
}

export async function writeLease(directory: string, _id: string, note: LeaseNote): Promise<void> {
  const life = lifeAt(directory);
  life.effect('note its lease');
  life.here.lease = note;
}

export async function removeLease(directory: string): Promise<void> {
  const life = lifeAt(directory);
  if (life.here.lease === null) return;
  life.effect('remove the note of its lease');
  life.here.lease = null;
}

export async function wasStopped(directory: string): Promise<boolean> {
  return lifeAt(directory).here.stopped;
}

export async function clearStopped(directory: string): Promise<void> {
  const life = lifeAt(directory);
  life.effect("clear the guard's mark");
  life.here.stopped = false;
}
