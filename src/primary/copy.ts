/**
 * Copies whole disks: the initial copy, and the comparison after which only what differs is sent (resynchronization,
 * reverse replication). A bitmap is started first; then the disks are read in slices, each a short job, while the guest
 * runs: what arrives is fuzzy, and the closing cycle, an increment since that bitmap, makes it one instant. Each
 * acknowledged slice is remembered, so that a break costs at most one.
 */
import { crashPoint } from '../lib/crash-point.ts';
import { sleep } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';
import { after } from '../model/state.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';
import type { CopyProgress, LogInFlight } from '../store/store.ts';
import { PointReader } from './capture.ts';
import { startSending } from './cycle.ts';
import type { GrowingLog } from './outbox.ts';
import type { Replication } from './replication.ts';

/** Bytes of disk compared in one slice at most: 16,384 digests, 256 KiB of them. */
const COMPARE_RANGE = 1024 * 1024 * 1024;
/** Bytes of disk looked at in one slice of an initial copy at most; what is data of it is bounded by `sliceBytes`. */
const EMPTY_RANGE = 64 * 1024 * 1024 * 1024;
/** Stop reading a slice after this long: an open job costs the guest a copy at each first write. */
const SLICE_MS = 5000;

/** Begins a copy: from now on every write of the guest is recorded. */
export async function beginCopy(replication: Replication, mode: CopyProgress['mode']): Promise<void> {
  const { hypervisor } = replication.services;
  const { vmId, position } = replication.record;
  const bitmap = replication.bitmapName(position.sequence);
  await hypervisor.dropBitmap(vmId, bitmap);
  await hypervisor.startBitmap(vmId, replication.targets(), bitmap);
  crashPoint('copy:tracked');
  replication.update({
    bitmap,
    copy: { mode, disk: 0, offset: 0, blocksCompared: 0, blocksDifferent: 0 },
    ...after(replication.record, mode === 'empty' ? 'copy-begun' : 'compare-begun'),
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
  const { size } = replication.record.disks[copy.disk]!;
  const range = copy.mode === 'compare' ? COMPARE_RANGE : EMPTY_RANGE;
  const to = Math.min(size, copy.offset + range);
  replication.enter(copy.mode === 'compare' ? 'comparing' : 'reading');
  // Asked for before the point is opened: the network never holds a job open.
  const theirs = copy.mode === 'compare' ? await digests(replication, copy, to, signal) : undefined;
  const inFlight = replication.intend({ nextBitmap: null, copyAfter: copy });
  let slice: Slice;
  try {
    slice = await captureSlice(replication, inFlight, copy, to, theirs, signal);
  } catch (error) {
    if (replication.record.inFlight?.makes === null) await replication.discard(inFlight);
    throw error;
  }
  const after = advance(replication, slice.progress);
  if (slice.sending === undefined) {
    replication.update({ inFlight: null, copy: after });
    return;
  }
  replication.enter('sending');
  const status = await slice.sending;
  crashPoint('slice:acknowledged');
  await replication.acknowledged({ ...replication.record.inFlight!, copyAfter: after }, status.received);
  const { statistics } = replication.record;
  const { send } = replication.activity;
  replication.count({
    changedBytes: statistics.changedBytes + slice.bytes,
    sentBytes: statistics.sentBytes + send.sent,
    resentBytes: statistics.resentBytes + send.resent,
    lastSentBytes: send.sent,
    lastChangedBytes: slice.bytes,
    maxJobMs: Math.max(statistics.maxJobMs, slice.jobMs),
    lastJobMs: slice.jobMs,
  });
}

/** Moves on to the next disk when one is done. */
function advance(replication: Replication, progress: CopyProgress): CopyProgress {
  const { size } = replication.record.disks[progress.disk]!;
  return progress.offset >= size ? { ...progress, disk: progress.disk + 1, offset: 0 } : progress;
}

async function digests(replication: Replication, copy: CopyProgress, to: number, signal: AbortSignal): Promise<Buffer> {
  const { endpoint } = replication.services;
  const { target } = replication.record.disks[copy.disk]!;
  const from = copy.offset / DIGEST_BLOCK;
  const count = Math.ceil(to / DIGEST_BLOCK) - from;
  for (;;) {
    try {
      const bytes = Buffer.from(await endpoint.digests(replication.id, target, from, count));
      if (bytes.length === count * DIGEST_BYTES) return bytes;
      throw new Failure('bad-log', `the replica answered ${bytes.length} bytes for ${count} digests of ${target}`);
    } catch (error) {
      // The replica still applies the slice before: nothing to compare with yet.
      if (!(error instanceof Failure) || error.code !== 'busy') throw error;
      await sleep(50, signal);
    }
  }
}

interface Slice {
  readonly progress: CopyProgress;
  readonly bytes: number;
  readonly jobMs: number;
  readonly sending: ReturnType<typeof startSending> | undefined;
}

async function captureSlice(
  replication: Replication,
  inFlight: LogInFlight,
  copy: CopyProgress,
  to: number,
  theirs: Buffer | undefined,
  signal: AbortSignal,
): Promise<Slice> {
  const { hypervisor, outbox, compression } = replication.services;
  const { vmId } = replication.record;
  const point = await hypervisor.openPoint({ vmId, targets: replication.targets(), since: null, next: null });
  crashPoint('slice:opened');
  const opened = performance.now();
  const given = new AbortController();
  let log: GrowingLog | undefined;
  let sending: Slice['sending'];
  try {
    let progress: CopyProgress;
    log = await outbox.begin(replication.header(inFlight, null), compression);
    // In comparing it isn't known yet whether there is anything to send.
    if (theirs === undefined) sending = startSending(replication, log, AbortSignal.any([signal, given.signal]));
    {
      await using reader = await PointReader.connect(point, replication.targets());
      progress =
        theirs === undefined
          ? await copyData(replication, reader, copy, to, log, signal)
          : await compare(replication, reader, copy, to, theirs, log, signal);
    }
    if (log.writer.frames === 0 && sending === undefined) {
      await log.abandon(new Failure('internal', 'nothing differed'));
      await hypervisor.closePoint(vmId);
      return { progress, bytes: 0, jobMs: performance.now() - opened, sending: undefined };
    }
    const footer = await log.finish();
    replication.activity.logBytes = log.writer.written;
    replication.completed({ ...inFlight, copyAfter: advance(replication, progress) }, footer, point.instant);
    await hypervisor.closePoint(vmId);
    sending ??= startSending(replication, log, AbortSignal.any([signal, given.signal]));
    return { progress, bytes: footer.dataBytes + footer.zeroBytes, jobMs: performance.now() - opened, sending };
  } catch (error) {
    given.abort(error);
    await log?.abandon(error instanceof Error ? error : new Error(String(error)));
    await sending?.catch(() => undefined); // it failed because we gave up; `error` is the reason
    throw error;
  }
}

/** Steps of reading between looks at the clock and at the size of the log. */
const STEP = 16 * 1024 * 1024;

/** Everything that isn't zero, from where the copy stands, until the slice is full, late, or at `to`. */
async function copyData(
  replication: Replication,
  reader: PointReader,
  copy: CopyProgress,
  to: number,
  log: GrowingLog,
  signal: AbortSignal,
): Promise<CopyProgress> {
  const { sliceBytes } = replication.services;
  const deadline = performance.now() + SLICE_MS;
  let offset = copy.offset;
  for (const extent of (await reader.changed(copy.disk, copy.offset, to)).filter((candidate) => !candidate.zero)) {
    for (let at = extent.offset; at < extent.offset + extent.length; at += STEP) {
      if (log.writer.changedBytes >= sliceBytes || performance.now() > deadline) return { ...copy, offset };
      const length = Math.min(STEP, extent.offset + extent.length - at);
      await reader.copy(copy.disk, [{ offset: at, length, zero: false }], log.writer, signal);
      replication.activity.logBytes = log.writer.written;
      offset = at + length;
    }
  }
  return { ...copy, offset: to };
}

async function compare(
  replication: Replication,
  reader: PointReader,
  copy: CopyProgress,
  to: number,
  theirs: Buffer,
  log: GrowingLog,
  signal: AbortSignal,
): Promise<CopyProgress> {
  const { sliceBytes } = replication.services;
  const deadline = performance.now() + SLICE_MS;
  let { offset, blocksCompared, blocksDifferent } = copy;
  while (offset < to && log.writer.changedBytes < sliceBytes && performance.now() <= deadline) {
    const stop = Math.min(to, offset + STEP);
    const skip = ((offset - copy.offset) / DIGEST_BLOCK) * DIGEST_BYTES;
    const found = await reader.copyDifferent(copy.disk, offset, stop, theirs.subarray(skip), log.writer, signal);
    blocksCompared += found.compared;
    blocksDifferent += found.different;
    offset = stop;
  }
  return { ...copy, offset, blocksCompared, blocksDifferent };
}
