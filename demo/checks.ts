/** Verdicts on what was seen. Pure: numbers in, numbers out. */
import { problems, type RecordsReport } from '../lab/guest/records.ts';
import type { Announced } from '../lab/guest/witness.ts';

export interface Seen {
  readonly begun: readonly Announced[];
  readonly completed: readonly Announced[];
}

/** The moment that a recovery point holds: not before `instant`, not after `by` (ms, this machine's clock). */
export interface PointInTime {
  readonly instant: number;
  readonly by: number;
}

export interface Loss {
  /** Records complete on both disks before the end. */
  readonly written: number;
  readonly lost: number;
  /** Lost, and yet complete before the instant: a broken promise. */
  readonly lostBeforeInstant: number;
  /** There, and yet begun only after the point: it isn't that point. */
  readonly fromTheFuture: number;
}

/** @param kept number of the last record on the disks that the VM went on with. */
export function judgeLoss({ begun, completed }: Seen, kept: number, point: PointInTime): Loss {
  const lost = completed.filter(({ number }) => number > kept);
  return {
    written: completed.length,
    lost: lost.length,
    lostBeforeInstant: lost.filter(({ seen }) => seen <= point.instant).length,
    fromTheFuture: begun.filter(({ number, notBefore }) => number <= kept && notBefore > point.by).length,
  };
}

/**
 * What is wrong with the records of a guest that writes on while it checks them: it reads vda before vdb, so vdb may be ahead
 * by what was written meanwhile.
 */
export function problemsWhileWriting({ vda, vdb }: RecordsReport): string[] {
  const meanwhile = (vdb.last ?? 0) > (vda.last ?? 0);
  return problems({ vda, vdb: meanwhile ? { ...vdb, last: vda.last } : vdb });
}

/** What libvirt says of the VM on both hosts at one moment; null where it can't be asked. */
export interface Sample {
  readonly at: number;
  readonly a: string | null;
  readonly b: string | null;
}

/** Moments at which the VM ran on both. */
export function overlaps(samples: readonly Sample[]): number {
  return samples.filter(({ a, b }) => a === 'running' && b === 'running').length;
}

/**
 * Whether a reversal sent differences, and not everything: something differed (what was lost at least), and both by
 * blocks and by bytes it was less than half of what a full copy is.
 */
export function sentOnlyDifferences(
  reverse: { readonly blocksDifferent: number; readonly sentBytes: number },
  fullCopy: { readonly blocks: number; readonly sentBytes: number },
): boolean {
  const { blocksDifferent, sentBytes } = reverse;
  return blocksDifferent > 0 && blocksDifferent < fullCopy.blocks / 2 && sentBytes < fullCopy.sentBytes / 2;
}
