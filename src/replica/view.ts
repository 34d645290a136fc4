/**
 * A view: what the disks held at one recovery point, readable while newer logs are being applied.
 *
 * Where an undo log newer than the point covers a byte, the oldest such log holds what the point had there; elsewhere the
 * flat disk still holds it. The applier publishes an undo log here *before* it writes to the disks; so a read looks at
 * the index, reads, and looks again: what is still not covered was not written before it was read.
 */
import { FrameKind } from '../deltalog/frame.ts';
import { LogReader, type FrameEntry } from '../deltalog/reader.ts';
import { Failure } from '../model/failure.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import type { SourceExtent } from '../qemu/nbd/server.ts';
import { ALLOCATION, BASE_ALLOCATION } from '../qemu/nbd/wire.ts';
import type { DiskEngine } from './engine.ts';
import { ExtentIndex, type IndexedRun, type Segment } from './extent-index.ts';
import { FrameCache } from './frame-cache.ts';
import type { UndoLog } from './undo-chain.ts';

/** Unpacked frames kept by a view: 64 × 64 KiB. */
const CACHED_FRAMES = 64;

/** The flat disks, as far as a view needs them. */
export type PatientDisks = Pick<DiskEngine, 'patiently'>;

/** Where in which undo log some bytes are. */
export interface UndoSource {
  readonly reader: LogReader;
  readonly frame: FrameEntry;
}

/** The frames of an undo log, as runs of one disk. */
export function runsOf(reader: LogReader, frames: readonly FrameEntry[], disk: number): IndexedRun<UndoSource>[] {
  return frames
    .filter((frame) => frame.disk === disk)
    .map((frame) => ({ offset: frame.offset, length: frame.length, source: { reader, frame } }));
}

export class PointView {
  /** Sequence of the point that it shows. */
  readonly sequence: number;
  readonly disks: readonly ReplicatedDisk[];
  readonly #engine: PatientDisks;
  readonly #readers: LogReader[] = [];
  readonly #indexes: readonly ExtentIndex<UndoSource>[];
  #closed = false;
  readonly #cache = new FrameCache(CACHED_FRAMES);

  private constructor(sequence: number, disks: readonly ReplicatedDisk[], engine: PatientDisks) {
    this.sequence = sequence;
    this.disks = disks;
    this.#engine = engine;
    this.#indexes = disks.map(() => new ExtentIndex());
  }

  /** @param logs the undo logs that lead back to the point, oldest first. It keeps them open: they may be unlinked. */
  static async open(
    sequence: number,
    disks: readonly ReplicatedDisk[],
    logs: readonly UndoLog[],
    engine: PatientDisks,
  ): Promise<PointView> {
    const view = new PointView(sequence, disks, engine);
    try {
      for (const log of logs) await view.publish(log);
      return view;
    } catch (error) {
      await view.close();
      throw error;
    }
  }

  /** Takes in an undo log newer than all before. Once this resolves, the disks may be written. */
  async publish(log: UndoLog): Promise<void> {
    const reader = await LogReader.open(log.path);
    this.#readers.push(reader);
    if (this.#closed) {
      await reader.close(); // closed while the log was being opened
      return;
    }
    const frames = await reader.index();
    for (const [disk, index] of this.#indexes.entries()) index.add(runsOf(reader, frames, disk));
  }

  /** Fills `target` with what the disk of that index held at the point. */
  async readInto(disk: number, target: Uint8Array, offset: number): Promise<void> {
    const index = this.#indexes[disk]!;
    const { version } = index;
    const part = ({ offset: at, length }: Segment<UndoSource>) => target.subarray(at - offset, at - offset + length);
    const segments = index.lookup(offset, target.length);
    await Promise.all(segments.map((segment) => this.#readSegment(disk, segment, part(segment))));
    if (index.version === version) return;
    // Whatever was read from the disk and is covered by now may have been overwritten before it was read.
    for (const before of segments.filter(({ source }) => source === undefined)) {
      for (const now of index.lookup(before.offset, before.length)) {
        if (now.source !== undefined) await this.#readSegment(disk, now, part(now));
      }
    }
  }

  /** Holes and data of the disk at the point. */
  async extents(disk: number, offset: number, length: number): Promise<SourceExtent[]> {
    const index = this.#indexes[disk]!;
    const onDisk = await this.#engine.patiently((clients) => clients[disk]!.extents(BASE_ALLOCATION, offset, length));
    // Looked at after the disk: what isn't covered now hadn't been written when the disk was asked.
    const out: SourceExtent[] = [];
    for (const segment of index.lookup(offset, length)) {
      if (segment.source !== undefined) {
        const zero = segment.source.frame.kind === FrameKind.zero;
        out.push({ offset: segment.offset, length: segment.length, hole: zero, zero });
        continue;
      }
      const end = segment.offset + segment.length;
      for (const extent of onDisk) {
        const from = Math.max(extent.offset, segment.offset);
        const to = Math.min(extent.offset + extent.length, end);
        if (to <= from) continue;
        const hole = (extent.flags & ALLOCATION.hole) !== 0;
        out.push({ offset: from, length: to - from, hole, zero: (extent.flags & ALLOCATION.zero) !== 0 });
      }
    }
    return out;
  }

  /** Lets go of the undo logs. Nobody may read it any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#readers.map((reader) => reader.close()));
  }

  async #readSegment(disk: number, segment: Segment<UndoSource>, target: Uint8Array): Promise<void> {
    const { offset, source } = segment;
    if (source === undefined) {
      await this.#engine.patiently((clients) => clients[disk]!.readInto(target, offset));
    } else if (source.frame.kind === FrameKind.zero) {
      target.fill(0);
    } else {
      const data = await this.#cache.get(source.reader, source.frame);
      const from = offset - source.frame.offset;
      if (data.copy(target, 0, from, from + target.length) !== target.length) {
        throw new Failure('internal', `a view read too little of ${source.reader.path} at ${offset}`);
      }
    }
  }
}
