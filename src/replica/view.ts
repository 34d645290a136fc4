/**
 * A view: what the disks held at one recovery point, readable while newer logs are being applied.
 *
 * Where an undo log newer than the point covers a byte, the oldest such log holds what the point had there; elsewhere the
 * flat disk still holds it. The applier has an undo log published here *before* it writes to the disks; so a read looks at
 * the index, reads, and looks again: what is still not covered was not written before it was read.
 */
import { LogReader, type FrameEntry } from '../deltalog/reader.ts';
import { BufferPool } from '../lib/buffer-pool.ts';
import { Failure } from '../model/failure.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import type { SourceBytes, SourceExtent } from '../qemu/nbd/server.ts';
import { ALLOCATION, BASE_ALLOCATION } from '../qemu/nbd/wire.ts';
import { FrameCache } from './frame-cache.ts';
import { RunColumns, RunIndex, type Runs, type SourcedPart } from './run-index.ts';
import { UndoFrames, type LoadedFrame } from './undo-frames.ts';
import type { PatientDisks } from './view-disks.ts';

/** Unpacked frames kept by a view, bytes. */
const CACHED_BYTES = 16 * 1024 * 1024;
/** Buffers kept for the next reads, bytes. */
const POOLED_BYTES = 16 * 1024 * 1024;
/** Parts of frames smaller than this are read through the cache: the rest of the frame is likely to be wanted soon. */
const SMALL = 32 * 1024;
/** Logs whose indexes are read at a time. */
const LOGS_AT_ONCE = 16;
/** Frames that no byte of the view comes from any more are let go of when they are so many, and more than the others. */
const MANY_USELESS = 65_536;
const ZEROS = Buffer.alloc(1024 * 1024);

/** Buffers that a read holds until its bytes are sent. */
type Lent = Buffer[];

export class PointView {
  readonly disks: readonly ReplicatedDisk[];
  readonly #flat: PatientDisks;
  readonly #pool = new BufferPool(POOLED_BYTES);
  readonly #frames = new UndoFrames(this.#pool);
  readonly #cache = new FrameCache<number, LoadedFrame>(CACHED_BYTES, ({ data }) => data.length);
  readonly #indexes: readonly RunIndex[];
  /** Grows with every undo log. */
  #version = 0;

  private constructor(disks: readonly ReplicatedDisk[], flat: PatientDisks) {
    this.disks = disks;
    this.#flat = flat;
    this.#indexes = disks.map(() => new RunIndex());
  }

  /** @param logs paths of the undo logs that lead back to the point, oldest first: kept there as long as it is open. */
  static async open(disks: readonly ReplicatedDisk[], logs: readonly string[], flat: PatientDisks): Promise<PointView> {
    const view = new PointView(disks, flat);
    try {
      await view.publish(logs);
      return view;
    } catch (error) {
      view.close();
      throw error;
    }
  }

  /** Runs in its indexes, and bytes that these take. */
  get size(): { readonly runs: number; readonly bytes: number } {
    const runs = this.#indexes.reduce((sum, index) => sum + index.runs.count, 0);
    return { runs, bytes: 20 * runs + 16 * this.#frames.count };
  }

  /** Takes in undo logs newer than all before, oldest first. Once this resolves, the disks may be written. */
  async publish(logs: readonly string[]): Promise<void> {
    const runs: Runs[][] = [];
    for (let at = 0; at < logs.length; at += LOGS_AT_ONCE) {
      const some = logs.slice(at, at + LOGS_AT_ONCE);
      const entries = await Promise.all(some.map(framesOf));
      runs.push(...entries.map((frames, i) => this.#runsOf(some[i]!, frames)));
    }
    for (const [disk, index] of this.#indexes.entries()) index.add(runs.map((each) => each[disk]!));
    this.#version++;
    this.#forgetUseless();
  }

  /** The bytes that the disk of that index held at the point. */
  async read(disk: number, offset: number, length: number): Promise<SourceBytes> {
    const index = this.#indexes[disk]!;
    const version = this.#version;
    const lent: Lent = [];
    const giveBack = (): void => {
      for (const buffer of lent) this.#pool.give(buffer);
    };
    try {
      const segments = index.lookup(offset, length);
      const parts = await this.#readAll(disk, segments, lent);
      // Whatever was read from the disk and is covered by now may have been overwritten before it was read.
      if (this.#version !== version) {
        for (const [i, { offset: from, length: count, source }] of segments.entries()) {
          if (source === undefined) parts[i] = await this.#again(disk, parts[i]!, index.lookup(from, count), lent);
        }
      }
      return { parts: parts.flat(), release: giveBack };
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /** Holes and data of the disk at the point. */
  async extents(disk: number, offset: number, length: number): Promise<SourceExtent[]> {
    const index = this.#indexes[disk]!;
    const onDisk = await this.#flat.patiently((clients) => extentsOf(clients[disk]!, offset, length));
    // Looked at after the disk: what isn't covered now hadn't been written when the disk was asked.
    const out: SourceExtent[] = [];
    let next = 0;
    for (const segment of index.lookup(offset, length)) {
      if (segment.source !== undefined) {
        const zero = this.#frames.isZero(segment.source);
        out.push({ offset: segment.offset, length: segment.length, hole: zero, zero });
        continue;
      }
      const end = segment.offset + segment.length;
      for (; next < onDisk.length; next++) {
        const extent = onDisk[next]!;
        const from = Math.max(extent.offset, segment.offset);
        const to = Math.min(extent.offset + extent.length, end);
        const hole = (extent.flags & ALLOCATION.hole) !== 0;
        const zero = (extent.flags & ALLOCATION.zero) !== 0;
        if (to > from) out.push({ offset: from, length: to - from, hole, zero });
        if (extent.offset + extent.length > end) break;
      }
    }
    return out;
  }

  /** Lets go of the undo logs. Nobody may read it any more. */
  close(): void {
    this.#frames.close();
  }

  /** What segments hold, each in pieces. Rejects only when nothing is under way any more. */
  async #readAll(disk: number, segments: readonly SourcedPart[], lent: Lent): Promise<Uint8Array[][]> {
    const frames = segments.filter((segment) => this.#isWhole(segment)).map(({ source }) => source!);
    const loads = this.#frames.groups(frames).map((group) => this.#load(group, lent));
    const byFrame = new Map(loads.flatMap(({ group, frames: loading }) => group.map((frame) => [frame, loading])));
    const reads = segments.map(async (segment): Promise<Uint8Array[]> => {
      const { source, length } = segment;
      if (source === undefined) return [await this.#readDisk(disk, segment, lent)];
      if (this.#frames.isZero(source)) return zeros(length);
      const loading = byFrame.get(source);
      const loaded = loading === undefined ? await this.#cached(source) : (await loading).get(source)!;
      return [partOf(loaded, disk, segment)];
    });
    const ends = await Promise.allSettled(reads);
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return ends.map((end) => (end as PromiseFulfilledResult<Uint8Array[]>).value);
  }

  /** A part of the disk that was read, with what undo logs say now. */
  async #again(disk: number, read: Uint8Array[], now: readonly SourcedPart[], lent: Lent): Promise<Uint8Array[]> {
    const [bytes] = read;
    const start = now[0]!.offset;
    const covered = now.filter(({ source }) => source !== undefined);
    const said = await this.#readAll(disk, covered, lent);
    return now.flatMap((part) => {
      if (part.source !== undefined) return said[covered.indexOf(part)]!;
      return [bytes!.subarray(part.offset - start, part.offset - start + part.length)];
    });
  }

  async #readDisk(disk: number, { offset, length }: SourcedPart, lent: Lent): Promise<Uint8Array> {
    const target = this.#pool.take(length);
    lent.push(target);
    await this.#flat.patiently((clients) => clients[disk]!.readInto(target, offset));
    return target;
  }

  /** Whether a segment is likely to be all that is wanted of its frame. */
  #isWhole({ source, length }: SourcedPart): boolean {
    return source !== undefined && length >= SMALL && !this.#frames.isZero(source);
  }

  #load(group: readonly number[], lent: Lent) {
    const frames = this.#frames.load(group).then((loaded) => {
      lent.push(loaded.buffer);
      return loaded.frames;
    });
    return { group, frames };
  }

  async #cached(frame: number): Promise<LoadedFrame> {
    return await this.#cache.get(this.#frames.key(frame), async () => {
      const { frames, buffer } = await this.#frames.load([frame]);
      const { head, data, lent } = frames.get(frame)!;
      const kept = { head, data: lent ? Buffer.from(data) : data, lent: false };
      this.#pool.give(buffer);
      return kept;
    });
  }

  /** The frames of a log as runs, for each disk. */
  #runsOf(path: string, entries: readonly FrameEntry[]): Runs[] {
    let frame = this.#frames.add(path, entries);
    const counts = this.disks.map(() => 0);
    // What a newer log has of disks that came after the point, or beyond their ends then, is nobody's to read.
    for (const { disk } of entries) if (disk < counts.length) counts[disk]!++;
    const runs = counts.map((count) => new RunColumns(count));
    for (const { disk, offset, length } of entries) {
      runs[disk]?.push(offset, length, frame);
      frame++;
    }
    return runs;
  }

  #forgetUseless(): void {
    const used = new Uint8Array(this.#frames.count);
    let count = 0;
    for (const { runs } of this.#indexes) {
      for (let i = 0; i < runs.count; i++) {
        const frame = runs.source[i]!;
        if (used[frame] === 0) count++;
        used[frame] = 1;
      }
    }
    const useless = used.length - count;
    if (useless < MANY_USELESS || useless < count) return;
    const numbers = this.#frames.keepOnly(used);
    for (const index of this.#indexes) index.renumber(numbers);
  }
}

/** None beyond the end of a disk that has been cut since. */
async function extentsOf(client: NbdClient, offset: number, length: number) {
  const end = Math.min(client.size, offset + length);
  return end <= offset ? [] : await client.extents(BASE_ALLOCATION, offset, end - offset);
}

async function framesOf(path: string): Promise<FrameEntry[]> {
  const reader = await LogReader.open(path);
  try {
    return await reader.index();
  } finally {
    await reader.close();
  }
}

function partOf({ head, data }: LoadedFrame, disk: number, { offset, length }: SourcedPart): Uint8Array {
  const from = offset - head.offset;
  if (head.disk !== disk || from < 0 || from + length > data.length) {
    throw new Failure('bad-log', `a frame of an undo log doesn't hold ${length} bytes at ${offset} of disk ${disk}`);
  }
  return data.subarray(from, from + length);
}

function zeros(length: number): Uint8Array[] {
  const whole = Array.from<Uint8Array>({ length: Math.floor(length / ZEROS.length) }).fill(ZEROS);
  return [...whole, ZEROS.subarray(0, length % ZEROS.length)];
}
