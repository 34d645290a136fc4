/** Reads one slice of a copy from an open point into a log. */
import { changedBytesOf } from '../deltalog/header.ts';
import { Failure } from '../model/failure.ts';
import { totalLength, type ChangedExtent } from '../model/extent.ts';
import type { Point } from '../hypervisor/hypervisor.ts';
import type { CopyProgress, LogInFlight } from '../store/store.ts';
import { PointReader, type Packed } from './capture.ts';
import { giveUpLog, type Signals } from './cycle.ts';
import type { KnownPages, LearnedOfDisks } from './known-blocks.ts';
import type { GrowingLog } from './outbox.ts';
import type { Replication } from './replication.ts';
import { itemSize } from './pace.ts';
import { PackingLevel } from './packing.ts';
import { startSending } from './sending.ts';
import { isWorthThinning } from './thin.ts';
import { behindDisk } from './copy-progress.ts';
import { comparison, endOf, workOf, type ItemSize, type Work } from './work.ts';

/** Stop reading a slice after this long, ms: an open job costs the guest a copy at each first write. */
const SLICE_MS = 5000;
/** For so long, ms, a slice may take longer because the link is slow. */
const PATIENCE_MS = 1000;

export interface SliceRequest {
  readonly inFlight: LogInFlight;
  readonly point: Point;
  /** What the replica is known to have, by disk. */
  readonly known: readonly (KnownPages | undefined)[];
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
  /** Written again by the guest, and the same as before. */
  readonly unchangedBytes: number;
  readonly learned: LearnedOfDisks;
  /** Undefined when there was nothing to send. */
  readonly log: GrowingLog | undefined;
  /** Undefined when the log isn't to be sent as it is. */
  readonly sending: ReturnType<typeof startSending> | undefined;
}

export async function captureSlice(
  replication: Replication,
  request: SliceRequest,
  { held, signal }: Signals,
): Promise<Slice> {
  const { outbox, lanes, sliceBytes, outboxLimit } = replication.services;
  const { inFlight, point, known, copy, to, theirs } = request;
  const most = Math.min(sliceBytes * replication.slicePart, await outboxLimit());
  const bytes = Math.min(most, to - copy.offset);
  const log = await outbox.begin(replication.header(inFlight, null), bytes);
  const given = new AbortController();
  let sending: Slice['sending'];
  // Onto empty disks everything is new, and of another shape the replica can't be asked yet.
  const thins =
    copy.mode !== 'empty' && replication.record.reshaped !== true && isWorthThinning(replication, bytes, bytes);
  const level = PackingLevel.of(replication, { bytes, thins, patienceMs: PATIENCE_MS });
  const onGrown = () => {
    replication.activity.logBytes = log.written;
    // In comparing it isn't known before whether there is anything to send.
    if (!thins) sending ??= startSending(replication, log, AbortSignal.any([signal, given.signal]));
    level.look(log.written);
  };
  try {
    const deadline = performance.now() + SLICE_MS * replication.slicePart;
    const slice = new SliceWork(copy, to, () => performance.now() > deadline);
    let found: Packed;
    {
      await using reader = new PointReader(point, replication.record.disks);
      const extents = await changesOf(reader, copy, to);
      const limit = () => (theirs === undefined ? replication.readLimit : replication.compareLimit);
      const size = itemSize(limit());
      const items =
        theirs === undefined ? slice.upTo(most, size, extents) : slice.comparing(most, size, extents, theirs, log);
      const pace = (work: Work) => replication.pace.take(work, limit());
      const options = { lanes, bytes, level: level.shared, known, signal: held, pace, onGrown };
      found = await reader.pack(items, log, options);
    }
    const progress: CopyProgress = {
      ...copy,
      offset: slice.end,
      ...(theirs === undefined ? {} : counted(copy, found)),
    };
    const { learned, sameBytes } = found;
    const read = {
      after: advance(replication, progress),
      learned,
      unchangedBytes: theirs === undefined ? sameBytes : 0,
    };
    if (log.frames === 0) {
      await log.abandon(new Failure('internal', 'there was nothing to send'));
      return { ...read, bytes: 0, log: undefined, sending: undefined };
    }
    const footer = await log.finish();
    onGrown();
    replication.completed({ ...inFlight, copyAfter: read.after }, footer, point.instant);
    return { ...read, bytes: changedBytesOf(footer), log, sending };
  } catch (error) {
    await giveUpLog(log, sending, given, error);
    throw error;
  }
}

function counted(copy: CopyProgress, { compared, different }: Packed) {
  return { blocksCompared: copy.blocksCompared + compared, blocksDifferent: copy.blocksDifferent + different };
}

/** Moves on to the next disk when one is done. */
function advance(replication: Replication, progress: CopyProgress): CopyProgress {
  const { disks } = replication.record;
  return progress.offset >= disks[progress.disk]!.size ? behindDisk(progress, disks) : progress;
}

/** What there is to copy from where the copy stands: zeros needn't be sent onto empty disks. */
async function changesOf(reader: PointReader, copy: CopyProgress, to: number): Promise<ChangedExtent[]> {
  const extents = await reader.changed(copy.disk, copy.offset, to);
  return copy.mode === 'empty' ? extents.filter(({ zero }) => !zero) : extents;
}

/** Hands out what belongs to a slice, until it is full or time is up. */
class SliceWork {
  /** What was handed out ends here, bytes of the disk; where nothing is left, at the end of the slice's range. */
  end: number;
  readonly #copy: CopyProgress;
  readonly #to: number;
  readonly #isLate: () => boolean;

  constructor(copy: CopyProgress, to: number, isLate: () => boolean) {
    this.end = copy.offset;
    this.#copy = copy;
    this.#to = to;
    this.#isLate = isLate;
  }

  /** Up to `most` bytes of data. */
  *upTo(most: number, size: ItemSize, extents: readonly ChangedExtent[]): Generator<Work, void, undefined> {
    let left = most;
    for (const work of workOf(this.#copy.disk, extents, { ...size, bytes: Math.min(size.bytes, most) })) {
      if (left <= 0 || this.#isLate()) return;
      left -= totalLength(work.extents.filter(({ zero }) => !zero));
      this.end = endOf(work);
      yield work;
    }
    this.end = this.#to;
  }

  /** Until about `most` bytes of data have been found different. */
  *comparing(
    most: number,
    size: ItemSize,
    extents: readonly ChangedExtent[],
    theirs: Buffer,
    log: GrowingLog,
  ): Generator<Work, void, undefined> {
    const range = { from: this.#copy.offset, to: this.#to };
    for (const work of comparison(this.#copy.disk, range, extents, theirs, size.bytes)) {
      if (log.dataBytes >= most || this.#isLate()) return;
      this.end = endOf(work);
      yield work;
    }
  }
}
