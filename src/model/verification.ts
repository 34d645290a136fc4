/** How a primary proves, over and over, that both sides hold the same: passes over all disks, in slices. Pure. */
import type { Extent } from './extent.ts';
import type { ReplicatedDisk } from './relationship.ts';

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
  const total = disks.reduce((sum, { size }) => sum + size, 0);
  return Math.max(LEAST, Math.ceil((total * intervalSeconds * HASTE) / passSeconds));
}

/** When the next pass is due, ms since the epoch: at once where there was none; null where passes are only made when asked for. */
export function nextPass({ pass, last }: Verification, passSeconds: number, now: number): number | null {
  if (pass !== null) return now;
  if (passSeconds === 0) return null;
  return last === null ? now : last.began + passSeconds * 1000;
}

/** Begins a pass where one is due; one that is under way goes on. */
export function withPass(verification: Verification, passSeconds: number, now: number): Verification {
  const due = nextPass(verification, passSeconds, now);
  // A clock that was set back must not put it off for as long.
  const early = verification.last !== null && verification.last.began > now;
  if (verification.pass !== null || due === null || (due > now && !early)) return verification;
  return { ...verification, pass: { began: now, disk: 0, offset: 0, leftOut: 0 } };
}

/** The pass after [offset, to) of its disk was compared but for `leftOut` bytes; ended behind the last disk. */
export function advanced(
  verification: Verification,
  disks: readonly ReplicatedDisk[],
  slice: { readonly to: number; readonly leftOut: number },
  now: number,
): Verification {
  const { pass } = verification;
  if (pass === null) return verification;
  const leftOut = pass.leftOut + slice.leftOut;
  const next =
    slice.to < disks[pass.disk]!.size
      ? { ...pass, offset: slice.to, leftOut }
      : { ...pass, disk: pass.disk + 1, offset: 0, leftOut };
  if (next.disk < disks.length) return { ...verification, pass: next };
  return { ...verification, pass: null, asked: false, last: { began: pass.began, ended: now, leftOut } };
}

/** Bytes of a pass that are behind it. */
export function bytesDone({ disk, offset }: VerificationPass, disks: readonly ReplicatedDisk[]): number {
  return disks.slice(0, disk).reduce((sum, { size }) => sum + size, 0) + offset;
}
