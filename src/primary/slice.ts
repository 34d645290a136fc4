/** Reads one slice of a copy from an open point into a log. */
import { Failure } from '../model/failure.ts';
import type { ChangedExtent } from '../model/extent.ts';
import type { Point } from '../hypervisor/hypervisor.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';
import type { CopyProgress, LogInFlight } from '../store/store.ts';
import { PointReader } from './capture.ts';
import { giveUpLog, startSending, type Signals } from './cycle.ts';
import type { GrowingLog } from './outbox.ts';
import type { Replication } from './replication.ts';

/** Stop reading a slice after this long, ms: an open job costs the guest a copy at each first write. */
const SLICE_MS = 5000;
/** Bytes between looks at the clock and at the size of the log. */
const STEP = 16 * 1024 * 1024;

export interface SliceRequest {
  readonly inFlight: LogInFlight;
  readonly point: Point;
  /** Where it begins. */
  readonly copy: CopyProgress;
  /** Where it ends at the latest: byte offset on the disk. */
  readonly to: number;
  /** When comparing: the replica's digests from `copy.offset` on. */
  readonly theirs: Buffer | undefined;
}

export interface Slice {
  /** The copy's progress once the slice is acknowledged. */
  readonly after: CopyProgress;
  readonly bytes: number;
  /** Undefined when there was nothing to send. */
  readonly sending: ReturnType<typeof startSending> | undefined;
}

/** Reading goes on for as long as the point is held, the slice isn't full, and there is time. */
interface Reading {
  readonly reader: PointReader;
  readonly log: GrowingLog;
  readonly held: AbortSignal;
  readonly isFull: () => boolean;
}

export async function captureSlice(
  replication: Replication,
  request: SliceRequest,
  { held, signal }: Signals,
): Promise<Slice> {
  const { outbox, compression, sliceBytes, outboxLimit } = replication.services;
  const { inFlight, point, copy } = request;
  const log = await outbox.begin(replication.header(inFlight, null), compression);
  const given = new AbortController();
  const startSend = () => startSending(replication, log, AbortSignal.any([signal, given.signal]));
  let sending: Slice['sending'];
  try {
    const deadline = performance.now() + SLICE_MS * replication.slicePart;
    const most = Math.min(sliceBytes * replication.slicePart, await outboxLimit());
    const isFull = () => log.writer.changedDataBytes >= most || performance.now() > deadline;
    let progress: CopyProgress;
    {
      await using reader = await PointReader.connect(point, replication.targets());
      const reading = { reader, log, held, isFull };
      if (request.theirs !== undefined) progress = await compare(reading, copy, request.to, request.theirs);
      else {
        const extents = await changesOf(reader, copy, request.to);
        // In comparing it isn't known before its end whether there is anything to send; here it is.
        if (extents.length > 0) sending = startSend();
        progress = await copyExtents(replication, reading, copy, extents, request.to);
      }
    }
    const after = advance(replication, progress);
    if (log.writer.frames === 0 && sending === undefined) {
      await log.abandon(new Failure('internal', 'there was nothing to send'));
      return { after, bytes: 0, sending };
    }
    const footer = await log.finish();
    replication.activity.logBytes = log.writer.written;
    replication.completed({ ...inFlight, copyAfter: after }, footer, point.instant);
    return { after, bytes: footer.dataBytes + footer.zeroBytes, sending: sending ?? startSend() };
  } catch (error) {
    await giveUpLog(log, sending, given, error);
    throw error;
  }
}

/** Moves on to the next disk when one is done. */
function advance(replication: Replication, progress: CopyProgress): CopyProgress {
  const { size } = replication.record.disks[progress.disk]!;
  return progress.offset >= size ? { ...progress, disk: progress.disk + 1, offset: 0 } : progress;
}

/** What there is to copy from where the copy stands: zeros needn't be sent onto empty disks. */
async function changesOf(reader: PointReader, copy: CopyProgress, to: number): Promise<ChangedExtent[]> {
  const extents = await reader.changed(copy.disk, copy.offset, to);
  return copy.mode === 'empty' ? extents.filter(({ zero }) => !zero) : extents;
}

async function copyExtents(
  replication: Replication,
  { reader, log, held, isFull }: Reading,
  copy: CopyProgress,
  extents: readonly ChangedExtent[],
  to: number,
): Promise<CopyProgress> {
  for (const { offset, length, zero } of extents) {
    const step = zero ? length : STEP;
    for (let at = offset; at < offset + length; at += step) {
      if (isFull()) return { ...copy, offset: at };
      const part = { offset: at, length: Math.min(step, offset + length - at), zero };
      await reader.copy(copy.disk, [part], log.writer, held);
      replication.activity.logBytes = log.writer.written;
    }
  }
  return { ...copy, offset: to };
}

async function compare(
  { reader, log, held, isFull }: Reading,
  copy: CopyProgress,
  to: number,
  theirs: Buffer,
): Promise<CopyProgress> {
  let { offset, blocksCompared, blocksDifferent } = copy;
  while (offset < to && !isFull()) {
    const stop = Math.min(to, offset + STEP);
    const skip = ((offset - copy.offset) / DIGEST_BLOCK) * DIGEST_BYTES;
    const found = await reader.copyDifferent(copy.disk, offset, stop, theirs.subarray(skip), log.writer, held);
    blocksCompared += found.compared;
    blocksDifferent += found.different;
    offset = stop;
  }
  return { ...copy, offset, blocksCompared, blocksDifferent };
}
