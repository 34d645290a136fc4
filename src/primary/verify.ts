/**
 * Proves that the replica holds what the primary has: while a point in time is open for a cycle anyway, the next slice of the disks is read
 * and digested, too; once the cycle is acknowledged, the replica reads its own there and compares. What differs is named, and goes with
 * the next cycle (repairs.ts); when that is acknowledged, it is compared again. Nothing of it can fail a cycle.
 */
import { UNKNOWN } from '../digests/digest-pages.ts';
import { readDigests } from '../digests/read-digests.ts';
import { sleep } from '../lib/clock.ts';
import type { Point } from '../hypervisor/hypervisor.ts';
import { overlaps, totalLength, type Extent } from '../model/extent.ts';
import { asFailure, Failure, type FailureCode } from '../model/failure.ts';
import type { Position } from '../model/relationship.ts';
import { nextPresent } from '../model/shape.ts';
import { advanced, atPresent, NOT_VERIFIED, sliceBytes, withPass } from '../model/verification.ts';
import { DIGEST_BLOCK, DIGEST_BYTES, MAX_VERIFY, type VerifyAnswer } from '../protocol/endpoint.ts';
import { PointReader } from './capture.ts';
import { withPoint } from './open-point.ts';
import { itemSize } from './pace.ts';
import { addRepairs, blocksOf, hasRepairs, repaired, repairsOf } from './repairs.ts';
import type { Replication } from './replication.ts';

/** By so much a cycle's point is held open longer at most, ms; and for so long one of its own, of a pass that was asked for. */
const RIDING_MS = 400;
const ALONE_MS = 1500;
/** For so long the replica is waited for at most, ms. */
const PATIENCE_MS = 30_000;
/** A VM that is off is looked at so often at most, ms; and no more is made up for at once than what falls due in so long, s. */
const GAP_MS = 60_000;
const MOST_SECONDS = 600;
/** Differing blocks that an event names. */
const NAMED = 8;

/** What was read of one disk at a point, block by block. */
export interface ReadSlice {
  readonly disk: number;
  /** The first block. */
  readonly from: number;
  /** DIGEST_BYTES for each; zeros for those that are left out. */
  readonly digests: Buffer;
  /** Bytes that were left out. */
  readonly leftOut: number;
  /** Sent again before: to be compared, and no part of the pass. */
  readonly isRepair: boolean;
}

/** Whether the replica is asked at all. */
function verifies({ services, verifiesNot }: Replication): boolean {
  return services.endpoint.verify !== undefined && !verifiesNot;
}

/** Whether a point in time is to be opened although the VM is off and nothing has changed. */
export function wantsPoint(replication: Replication): boolean {
  if (hasRepairs(replication)) return true;
  if (!verifies(replication)) return false;
  const { services, slicedAt = Number.NEGATIVE_INFINITY } = replication;
  const { pass, asked } = begun(replication);
  // A point of such a VM is opened for nothing else: not too often.
  const gapMs = Math.min(GAP_MS, services.verifySeconds * 50);
  return pass !== null && (asked || services.steady() - slicedAt >= gapMs);
}

/** With a pass, where one is due. */
function begun(replication: Replication) {
  const { now, boot, verifySeconds } = replication.services;
  const { verification = NOT_VERIFIED } = replication.record;
  const at = { now: now(), boot: boot() };
  const due = withPass(verification, verifySeconds, replication.passClock.sinceLast(verification, at), at.now);
  replication.passClock.sincePass(due, at);
  return due;
}

/** While a cycle's point is open: reads what comes next. What goes wrong is told, and no harm. */
export async function readAlong(replication: Replication, point: Point, held: AbortSignal): Promise<ReadSlice[]> {
  if (!verifies(replication) || replication.urgent) return [];
  const { intervalSeconds, disks } = replication.record;
  const verification = begun(replication);
  if (verification !== (replication.record.verification ?? NOT_VERIFIED)) replication.update({ verification });
  const { verifySeconds, steady } = replication.services;
  const sinceSeconds = (steady() - (replication.slicedAt ?? steady())) / 1000;
  const seconds = Math.max(intervalSeconds, Math.min(sinceSeconds, MOST_SECONDS));
  const bytes = verification.asked ? Number.POSITIVE_INFINITY : sliceBytes(disks, seconds, verifySeconds);
  replication.slicedAt = steady();
  try {
    const signal = AbortSignal.any([held, AbortSignal.timeout(RIDING_MS)]);
    const repairs = await readRepairs(replication, point, signal);
    return [...repairs, ...(await readNext(replication, point, { bytes, signal, leaveOut: false }))];
  } catch (error) {
    tell(replication, 'reading for a comparison failed', error);
    return [];
  }
}

/** Whether a pass that was asked for is under way. */
export function isAsked(replication: Replication): boolean {
  const { verification, bitmap, copy } = replication.record;
  return (
    verification?.asked === true &&
    verification.pass !== null &&
    bitmap !== null &&
    copy === null &&
    verifies(replication)
  );
}

/**
 * Between two cycles, in a point of its own: compares what hasn't changed since the replica's position, and leaves out what has.
 * @returns false when nothing came of it.
 */
export async function verifyAlone(replication: Replication, signal: AbortSignal): Promise<boolean> {
  const { bitmap, position } = replication.record;
  const request = { since: bitmap, next: null, due: replication.services.steady() };
  const { result } = await withPoint(replication, request, signal, async (point, held) => {
    const limit = AbortSignal.any([held, AbortSignal.timeout(ALONE_MS)]);
    return await readNext(replication, point, { bytes: Number.POSITIVE_INFINITY, signal: limit, leaveOut: true });
  });
  return await compare(replication, result, position, signal);
}

interface Bounds {
  readonly bytes: number;
  /** Ends the reading; what was read until then counts. */
  readonly signal: AbortSignal;
  /** What has changed since the replica's position isn't compared. */
  readonly leaveOut: boolean;
}

async function readNext(replication: Replication, point: Point, bounds: Bounds): Promise<ReadSlice[]> {
  const { verification = NOT_VERIFIED, disks } = replication.record;
  const out: ReadSlice[] = [];
  if (verification.pass === null) return out;
  let { disk, offset } = atPresent(verification.pass, disks);
  let left = bounds.bytes;
  await using reader = new PointReader(point, disks);
  while (disk < disks.length && left > 0) {
    const size = disks[disk]!.size;
    const blocks = Math.ceil(Math.min(itemSize(replication.readLimit).bytes, left, size - offset) / DIGEST_BLOCK);
    const to = Math.min(size, offset + blocks * DIGEST_BLOCK);
    const changed = bounds.leaveOut ? await reader.changed(disk, offset, to) : [];
    const slice = await read(
      replication,
      point,
      { disk, from: offset / DIGEST_BLOCK, count: blocks, changed },
      bounds.signal,
    );
    if (slice === undefined) break;
    out.push({ ...slice, isRepair: false });
    left -= to - offset;
    [disk, offset] = to < size ? [disk, to] : [nextPresent(disks, disk + 1), 0];
  }
  return out;
}

/** What is sent again by this cycle: it is compared as soon as that is acknowledged. */
async function readRepairs(replication: Replication, point: Point, signal: AbortSignal): Promise<ReadSlice[]> {
  const out: ReadSlice[] = [];
  for (const disk of replication.record.disks.keys()) {
    for (const { offset, length } of repairsOf(replication, disk)) {
      const end = Math.ceil((offset + length) / DIGEST_BLOCK);
      for (let from = Math.floor(offset / DIGEST_BLOCK); from < end; from += MAX_VERIFY) {
        const count = Math.min(MAX_VERIFY, end - from);
        const slice = await read(replication, point, { disk, from, count, changed: [] }, signal);
        if (slice === undefined) return out;
        out.push({ ...slice, isRepair: true });
      }
    }
  }
  return out;
}

/** Undefined when there is no time left. */
async function read(
  replication: Replication,
  point: Point,
  { disk, from, count, changed }: { disk: number; from: number; count: number; changed: readonly Extent[] },
  signal: AbortSignal,
): Promise<Omit<ReadSlice, 'isRepair'> | undefined> {
  const { lanes } = replication.services;
  const { target } = replication.record.disks[disk]!;
  const extent = { offset: from * DIGEST_BLOCK, length: count * DIGEST_BLOCK, zero: false };
  const wait = replication.pace.take({ disk, extents: [extent] }, replication.readLimit);
  if (wait > 0) await sleep(wait, signal).catch(() => undefined);
  if (signal.aborted) return undefined; // the next cycle goes on here
  const { socketPath, exportName } = point.exports.find((one) => one.target === target)!;
  const blocks = { address: { socketPath, exportName }, from, count };
  const digests = await readDigests(lanes, blocks, signal).catch((error: unknown) => {
    if (signal.aborted) return undefined;
    throw error;
  });
  if (digests === undefined) return undefined;
  let leftOut = 0;
  for (let block = from; block < from + count; block++) {
    const one = { offset: block * DIGEST_BLOCK, length: DIGEST_BLOCK };
    if (!overlaps(changed, one)) continue;
    UNKNOWN.copy(digests, (block - from) * DIGEST_BYTES);
    leftOut += DIGEST_BLOCK;
  }
  return { disk, from, digests, leftOut };
}

/** After these the same is read again another time; the rest is told. */
const LATER: ReadonlySet<FailureCode> = new Set(['busy', 'not-following', 'unreachable', 'interrupted', 'timeout']);

/**
 * Asks the replica, which stands at `position` as what was read does. @returns false when it didn't answer all: that is read again.
 * Failure `tracking-lost` as of `addRepairs`.
 */
export async function compare(
  replication: Replication,
  slices: readonly ReadSlice[],
  position: Position,
  signal: AbortSignal,
): Promise<boolean> {
  const { endpoint, intervalSeconds } = { ...replication.services, ...replication.record };
  const patience = AbortSignal.timeout(Math.min(PATIENCE_MS, Math.max(2000, intervalSeconds * 500)));
  for (const slice of joined(slices)) {
    const { target } = replication.record.disks[slice.disk]!;
    const changed = await changedSince(replication, slice);
    const question = { target, position, from: slice.from, digests: slice.digests, changed };
    let answer: VerifyAnswer;
    try {
      answer = await endpoint.verify!(replication.id, question, AbortSignal.any([signal, patience]));
    } catch (error) {
      signal.throwIfAborted();
      const { code } = asFailure(error, 'timeout');
      if (code === 'not-found') replication.verifiesNot = true;
      if (!LATER.has(code) && !patience.aborted) tell(replication, 'a comparison failed', error);
      return false;
    }
    note(replication, slice, answer);
  }
  return slices.length > 0;
}

/** Blocks of which more is known than what was read now: what was sent of them, and it was something else. */
async function changedSince({ services }: Replication, { disk, from, digests }: ReadSlice): Promise<number[]> {
  const count = digests.length / DIGEST_BYTES;
  const sent = await services.known.read(disk, from, count);
  return Array.from({ length: count }, (_, i) => i).filter((i) => {
    const [read, known] = [digests, sent].map((all) => all.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES)) as [
      Buffer,
      Buffer,
    ];
    return !read.equals(UNKNOWN) && !known.equals(UNKNOWN) && !read.equals(known);
  });
}

function note(replication: Replication, slice: ReadSlice, { different }: VerifyAnswer): void {
  const { now, boot } = replication.services;
  const { disks, verification: before = NOT_VERIFIED } = replication.record;
  const { target, size } = disks[slice.disk]!;
  const extentOf = (block: number) => {
    const offset = block * DIGEST_BLOCK;
    return { target, offset, length: Math.min(DIGEST_BLOCK, size - offset) };
  };
  const count = slice.digests.length / DIGEST_BYTES;
  const differing = new Set(different.map(({ block }) => block));
  const same = Array.from({ length: count }, (_, i) => slice.from + i).filter(
    (block) =>
      !differing.has(block) &&
      !slice.digests
        .subarray((block - slice.from) * DIGEST_BYTES, (block - slice.from + 1) * DIGEST_BYTES)
        .equals(UNKNOWN),
  );
  const repairs = repaired(before.repairs, target, same.map(extentOf));
  const mended = blocksOf(totalLength(before.repairs) - totalLength(repairs));
  const fresh = different.filter(
    ({ block }) =>
      !overlaps(
        before.repairs.filter((one) => one.target === target),
        extentOf(block),
      ),
  );
  const to = Math.min(size, (slice.from + count) * DIGEST_BLOCK);
  const clock = { now: now(), boot: boot() };
  const at = { now: clock.now, took: replication.passClock.sincePass(before, clock) };
  const moved = slice.isRepair ? before : advanced(before, disks, { to, leftOut: slice.leftOut }, at);
  replication.passClock.sinceLast(moved, clock); // before anybody sets the clock
  const verification = {
    ...moved,
    repairs,
    repaired: before.repaired + mended,
  };
  if (mended > 0 || different.length > 0 || !slice.isRepair) replication.update({ verification });
  if (mended > 0) {
    const text = `${mended} blocks of ${target} that had differed are the same on both sides again`;
    replication.services.event('info', 'verify-repaired', text);
  }
  if (fresh.length > 0) replication.services.event('warning', 'verify-different', inWords(target, fresh));
  if (before.pass !== null && verification.pass === null) {
    const { leftOut = 0 } = verification.last ?? {};
    const rest = leftOut === 0 ? '' : `; ${Math.ceil(leftOut / 2 ** 20)} MiB were being changed and not compared`;
    replication.services.event('info', 'verified', `both sides were compared as a whole${rest}`);
  }
  addRepairs(
    replication,
    different.map(({ block }) => extentOf(block)),
  );
}

const SIDES: Record<VerifyAnswer['different'][number]['side'], string> = {
  replica: 'changed at the replica since it was written',
  primary: 'changed at the primary without being tracked',
  both: 'changed at both sides since it was sent',
  unknown: 'neither side knows which has changed',
};

function inWords(target: string, different: VerifyAnswer['different']): string {
  const named = different
    .slice(0, NAMED)
    .map(({ block, side }) => `64 KiB at ${block * DIGEST_BLOCK} (${SIDES[side]})`);
  const more = different.length > NAMED ? `, and ${different.length - NAMED} more` : '';
  return `${target} differs at the replica: ${named.join(', ')}${more}; sent again with the next cycle`;
}

/** Neighbours of one disk as one, as far as a question may go. */
function joined(slices: readonly ReadSlice[]): ReadSlice[] {
  const out: ReadSlice[] = [];
  for (const slice of slices) {
    const last = out.at(-1);
    const count = last === undefined ? 0 : last.digests.length / DIGEST_BYTES;
    const next = slice.digests.length / DIGEST_BYTES;
    const fits =
      last?.disk === slice.disk &&
      last.isRepair === slice.isRepair &&
      last.from + count === slice.from &&
      count + next <= MAX_VERIFY;
    if (!fits) out.push(slice);
    else {
      const digests = Buffer.concat([last.digests, slice.digests]);
      out[out.length - 1] = { ...last, digests, leftOut: last.leftOut + slice.leftOut };
    }
  }
  return out;
}

function tell(replication: Replication, what: string, error: unknown): void {
  const failure = error instanceof Failure ? error : asFailure(error, 'io');
  replication.services.log.warn({ relationship: replication.id, err: failure }, what);
}
