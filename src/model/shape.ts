/** A VM's replicated disks, in order, with their sizes: what a replica is to have, too, and what each recovery point had. */
import type { ReplicatedDisk } from './relationship.ts';

/**
 * Whether disks of the one shape can become the other: the same ones in the same places, of whatever sizes; new ones come behind them. One
 * that is gone keeps its place, and may come back.
 */
export function canBecome(ours: readonly ReplicatedDisk[], theirs: readonly ReplicatedDisk[]): boolean {
  const targets = new Set(theirs.map(({ target }) => target));
  return targets.size === theirs.length && ours.every(({ target }, i) => theirs[i]?.target === target);
}

export function sameShape(a: readonly ReplicatedDisk[], b: readonly ReplicatedDisk[]): boolean {
  const isSame = ({ size, gone }: ReplicatedDisk, i: number): boolean => b[i]!.size === size && b[i]!.gone === gone;
  return a.length === b.length && canBecome(a, b) && a.every(isSame);
}

/** Target, size and whether it is gone, and nothing else. */
export function shapeOf(disks: readonly ReplicatedDisk[]): ReplicatedDisk[] {
  return disks.map(({ target, size, gone }) => ({ target, size, ...(gone === true ? { gone } : {}) }));
}

/** Those that the state has. */
export function presentDisks<T extends ReplicatedDisk>(disks: readonly T[]): T[] {
  return disks.filter(({ gone }) => gone !== true);
}

/** Place of the first one from `from` on that the state has; behind the last one where there is none. */
export function nextPresent(disks: readonly ReplicatedDisk[], from: number): number {
  const next = disks.findIndex(({ gone }, i) => i >= from && gone !== true);
  return next === -1 ? disks.length : next;
}
