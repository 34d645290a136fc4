/**
 * Copies disks in slices: the initial copy, the comparison after which only what differs is sent (resynchronization, reverse
 * replication), and catching up with what has changed. A bitmap is started first; then the disks are read in slices, each a short
 * job, while the guest runs: what arrives is fuzzy, and the closing cycle, an increment since that bitmap, makes it one
 * instant. Each acknowledged slice is remembered, so that a break costs at most one.
 */
import { crashPoint } from '../lib/crash-point.ts';
import { sleep } from '../lib/clock.ts';
import { needOf } from '../model/auto-resync.ts';
import { Failure } from '../model/failure.ts';
import type { Position } from '../model/relationship.ts';
import { nextPresent } from '../model/shape.ts';
import { after } from '../model/state.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';
import type { CopyProgress } from '../store/store.ts';
import { withPoint } from './open-point.ts';
import type { Replication } from './replication.ts';
import { captureSlice, type Slice } from './slice.ts';
import { sendThinned } from './thin.ts';

/** Bytes of disk compared in one slice at most: 16,384 digests, 256 KiB of them. */
const COMPARE_RANGE = 1024 * 1024 * 1024;
/** Bytes of disk looked at in one slice otherwise; what is data of it is bounded by `sliceBytes`. */
const RANGE = 64 * 1024 * 1024 * 1024;
/** A slice that had to be given up is halved, and the next ones too, down to this part of what is configured. */
const SMALLEST_PART = 1 / 64;

/**
 * Begins a copy: from now on every write of the guest is recorded. First of all it is remembered, in one breath with the replica's
 * position, that no bitmap leads there: whoever is interrupted behind that begins a copy again, and never takes a bitmap that has only
 * just been started for one that knows all changes since that position.
 */
export async function beginCopy(
  replication: Replication,
  mode: 'empty' | 'compare',
  position: Position = replication.record.position,
): Promise<void> {
  const { hypervisor, known } = replication.services;
  const { vmId, bitmap: before, copy } = replication.record;
  const comparing = mode === 'compare' ? after(replication.record, 'compare-begun') : {};
  replication.update({ position, bitmap: null, copy: null, ...comparing });
  crashPoint('copy:untracked');
  const bitmap = replication.bitmapName(position.sequence);
  // Those of another position would record on and on, for nobody.
  for (const name of new Set([before, copy?.since ?? null, bitmap])) {
    if (name !== null) await hypervisor.dropBitmap(vmId, name);
  }
  await hypervisor.startBitmap(vmId, replication.targets(), bitmap);
  await known.forget();
  crashPoint('copy:tracked');
  replication.update({
    bitmap,
    copy: {
      mode,
      since: null,
      disk: nextPresent(replication.record.disks, 0),
      offset: 0,
      blocksCompared: 0,
      blocksDifferent: 0,
    },
    ...(mode === 'empty' ? after(replication.record, 'copy-begun') : {}),
  });
}

/** Goes on with the copy that the record tells of, until the last slice is acknowledged. The closing cycle is the caller's. */
export async function runCopy(replication: Replication, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const { copy, disks } = replication.record;
    if (copy === null || copy.disk >= disks.length) return;
    await runSlice(replication, copy, signal);
  }
}

async function runSlice(replication: Replication, copy: CopyProgress, signal: AbortSignal): Promise<void> {
  const { known } = replication.services;
  const { disks } = replication.record;
  const { size } = disks[copy.disk]!;
  const range = copy.mode === 'compare' ? COMPARE_RANGE : RANGE;
  const to = Math.min(size, copy.offset + range);
  replication.enter(copy.mode === 'compare' ? 'comparing' : 'reading');
  // Asked for before the point is opened: the network never holds a job open.
  const theirs = copy.mode === 'compare' ? await digests(replication, copy, to, signal) : undefined;
  const pages = await known.at(replication.record, disks);
  const inFlight = replication.intend({ nextBitmap: null, copyAfter: copy });
  let captured: { result: Slice; jobMs: number };
  try {
    // A copy always has a slice that is due: each goes to the end of the line.
    const request = { since: copy.since, next: null, due: replication.services.steady() };
    captured = await withPoint(replication, request, signal, (point, held) => {
      crashPoint('slice:opened');
      return captureSlice(replication, { inFlight, point, known: pages, copy, to, theirs }, { held, signal });
    });
  } catch (error) {
    if (replication.record.inFlight?.makes === null) await replication.discard(inFlight);
    if (!(error instanceof Failure) || error.code !== 'too-much-at-once') throw error;
    if (replication.slicePart <= SMALLEST_PART) throw error;
    replication.slicePart /= 2;
    return;
  }
  const { result: slice, jobMs } = captured;
  const { statistics } = replication.record;
  const unchangedBytes = statistics.unchangedBytes + slice.unchangedBytes;
  if (slice.log === undefined) {
    await known.note(slice.learned);
    replication.update({ inFlight: null, copy: slice.after, statistics: { ...statistics, unchangedBytes } });
    return;
  }
  replication.enter('sending');
  await known.expect(replication.record.inFlight!.makes!, slice.learned);
  const status = await (slice.sending ?? sendThinned(replication, slice.log, signal));
  crashPoint('slice:acknowledged');
  const sent = replication.record.inFlight;
  const { send } = replication.activity;
  await replication.acknowledged({ ...sent!, copyAfter: slice.after }, status.received, {
    changedBytes: statistics.changedBytes + slice.bytes,
    unchangedBytes,
    ...replication.sentBy(send),
    lastSentBytes: send.sent,
    lastChangedBytes: slice.bytes,
    maxJobMs: Math.max(statistics.maxJobMs, jobMs),
    lastJobMs: jobMs,
  });
}

async function digests(replication: Replication, copy: CopyProgress, to: number, signal: AbortSignal): Promise<Buffer> {
  const { endpoint } = replication.services;
  const { disks, reshaped } = replication.record;
  const { target } = disks[copy.disk]!;
  const from = copy.offset / DIGEST_BLOCK;
  const count = Math.ceil(to / DIGEST_BLOCK) - from;
  // Who asks for a comparison may know of what no digest tells.
  const reread = needOf(replication.record)?.begin === 'at-once';
  for (;;) {
    try {
      const question = { target, from, count, ...(reread ? { reread } : {}) };
      const bytes = Buffer.from(await endpoint.digests(replication.id, question, signal));
      if (bytes.length === count * DIGEST_BYTES) return bytes;
      throw new Failure('bad-log', `the replica answered ${bytes.length} bytes for ${count} digests of ${target}`);
    } catch (error) {
      // An older one doesn't answer about a disk that is new, and comes with the next log: nothing is known of it.
      if (error instanceof Failure && error.code === 'not-found' && reshaped === true) {
        return Buffer.alloc(count * DIGEST_BYTES);
      }
      // The replica still applies the slice before: nothing to compare with yet.
      if (!(error instanceof Failure) || error.code !== 'busy') throw error;
      await sleep(50, signal);
    }
  }
}
