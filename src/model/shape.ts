/** A VM's replicated disks, in order, with their sizes: what a replica is to have, too, and what each recovery point had. */
import type { ReplicatedDisk } from './relationship.ts';

/** Whether disks of the one shape can become the other: the same ones in the same places, of whatever sizes; new ones come behind them. */
export function canBecome(ours: readonly ReplicatedDisk[], theirs: readonly ReplicatedDisk[]): boolean {
  const targets = new Set(theirs.map(({ target }) => target));
  return targets.size === theirs.length && ours.every(({ target }, i) => theirs[i]?.target === target);
}

export function sameShape(a: readonly ReplicatedDisk[], b: readonly ReplicatedDisk[]): boolean {
  return a.length === b.length && canBecome(a, b) && a.every(({ size }, i) => b[i]!.size === size);
}
