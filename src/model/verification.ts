/** How a primary proves, over and over, that both sides hold the same: passes over all disks, in slices. Pure. */
import type { Extent } from './extent.ts';
import type { ReplicatedDisk } from './relationship.ts';
import { nextPresent, presentDisks } from './shape.ts';

/** A pass under way. Times are ms since the epoch. */
export interface VerificationPass {
  readonly began: number;
  /** Index of the disk, and byte offset in it, of what comes next: a multiple of a block. */
  readonly disk: number;
  readonly offset: number;
  /** Bytes that were being changed when it was their turn, and weren't compared. */
  readonly leftOut: number;
}

/** What is to be sent again. */
export interface Repair extends Extent {
  readonly target: string;
}

export interface Verification {
  readonly pass: VerificationPass | null;
  /** The last whole pass. */
  readonly last: { readonly began: number; readonly ended: number; readonly leftOut: number } | null;
  /** The pass under way was asked for: it doesn't wait for cycles. */
  readonly asked: boolean;
  /** Blocks that were found different, and those that were found the same again after they had been sent, since the relationship began. */
  readonly different: number;
  readonly repaired: number;
  readonly repairs: readonly Repair[];
}

export const NOT_VERIFIED: Verification = {
  pass: null,
  last: null,
  asked: false,
  different: 0,
  repaired: 0,
  repairs: [],
};

/** So much faster than it has to be a pass goes: cycles are missed, hosts are off at night. */
const HASTE = 1.5;
/** Bytes that a cycle compares at least. */
const LEAST = 1024 * 1024;

/** Bytes that have to be compared in so many seconds for a pass to take `passSeconds`; 0 where passes are only made when asked for. */
export function sliceBytes(disks: readonly ReplicatedDisk[], intervalSeconds: number, passSeconds: number): number {
  if (passSeconds === 0) return 0;
  const total = bytesOf(disks);
  return Math.max(LEAST, Math.ceil((total * intervalSeconds * HASTE) / passSeconds));
}

/**
 * In how many ms the next pass is due: at once (0) where there was none; null where passes are only made when asked for.
 * @param sinceLast ms since the last one began (pass-clock.ts); null where there was none.
 */
export function untilNextPass(passSeconds: number, sinceLast: number | null): number | null {
  if (passSeconds === 0) return null;
  return sinceLast === null ? 0 : Math.max(0, passSeconds * 1000 - sinceLast);
}

/** Begins a pass where one is due; one that is under way goes on. */
export function withPass(
  verification: Verification,
  passSeconds: number,
  sinceLast: number | null,
  now: number,
): Verification {
  if (verification.pass !== null || untilNextPass(passSeconds, sinceLast) !== 0) return verification;
  return { ...verification, pass: { began: now, disk: 0, offset: 0, leftOut: 0 } };
}

/**
 * The pass after [offset, to) of its disk was compared but for `leftOut` bytes; ended behind the last disk.
 * @param at ms since the epoch, and for how many ms the pass has been going.
 */
export function advanced(
  verification: Verification,
  disks: readonly ReplicatedDisk[],
  slice: { readonly to: number; readonly leftOut: number },
  at: { readonly now: number; readonly took: number },
): Verification {
  const { pass } = verification;
  const { now, took } = at;
  if (pass === null) return verification;
  const leftOut = pass.leftOut + slice.leftOut;
  const { disk } = atPresent(pass, disks);
  const next =
    slice.to < disks[disk]!.size
      ? { ...pass, disk, offset: slice.to, leftOut }
      : { ...pass, disk: nextPresent(disks, disk + 1), offset: 0, leftOut };
  if (next.disk < disks.length) return { ...verification, pass: next };
  return { ...verification, pass: null, asked: false, last: { began: now - took, ended: now, leftOut } };
}

/** Bytes of a pass, or a copy, that are behind it. */
export function bytesDone(
  { disk, offset }: Pick<VerificationPass, 'disk' | 'offset'>,
  disks: readonly ReplicatedDisk[],
): number {
  return bytesOf(disks.slice(0, disk)) + offset;
}

/** Of those that are there. */
export function bytesOf(disks: readonly ReplicatedDisk[]): number {
  return presentDisks(disks).reduce((sum, { size }) => sum + size, 0);
}

/** Where a pass goes on: a disk may have gone since. */
export function atPresent(pass: VerificationPass, disks: readonly ReplicatedDisk[]): VerificationPass {
  const disk = nextPresent(disks, pass.disk);
  return disk === pass.disk ? pass : { ...pass, disk, offset: 0 };
}
