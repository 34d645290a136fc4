/**
 * The frames of the undo logs that a view reads: where they are, and what they hold, verified and unpacked. A frame has a
 * number of 32 bits, so that an index can name it by that.
 */
import { decodeFrameHead, FRAME_HEAD_SIZE, FrameKind, verifyFrame, Codec, type FrameHead } from '../deltalog/frame.ts';
import { unpack, type FrameEntry } from '../deltalog/reader.ts';
import type { BufferPool } from '../lib/buffer-pool.ts';
import { Failure } from '../model/failure.ts';
import { OpenFiles } from './open-files.ts';

/** Undo logs of a view that are open at once. */
const OPEN_FILES = 256;
/** Frames that lie one behind the other are read at once, up to so many bytes. */
const READ_AT_ONCE = 1024 * 1024;
/** `stored` of a zero frame; a data frame stores at least a byte. */
const ZERO = 0;
const FIRST_CAPACITY = 1024;

/** A data frame as it was read. */
export interface LoadedFrame {
  readonly head: FrameHead;
  readonly data: Buffer;
  /** `data` lies in a buffer that goes back to the pool. */
  readonly lent: boolean;
}

/** Frames that are read at once, and the buffer that they lie in. */
export interface Loaded {
  readonly frames: ReadonlyMap<number, LoadedFrame>;
  /** To be given back to the pool when no lent frame is needed any more. */
  readonly buffer: Buffer;
}

export class UndoFrames {
  readonly #files = new OpenFiles(OPEN_FILES);
  readonly #pool: BufferPool;
  #count = 0;
  #file = new Uint32Array(FIRST_CAPACITY);
  #at = new Float64Array(FIRST_CAPACITY);
  #stored = new Uint32Array(FIRST_CAPACITY);

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  get count(): number {
    return this.#count;
  }

  /** Takes in the frames of one more log; gives the number of the first, the others follow. */
  add(path: string, entries: readonly FrameEntry[]): number {
    const first = this.#count;
    const file = this.#files.add(path);
    this.#reserve(first + entries.length);
    for (const { kind, at, stored } of entries) {
      this.#file[this.#count] = file;
      this.#at[this.#count] = at;
      this.#stored[this.#count] = kind === FrameKind.zero ? ZERO : stored;
      this.#count++;
    }
    return first;
  }

  /** Lets all frames go but those marked. Gives the numbers that those have now: `numbers[old]`. */
  keepOnly(marked: Uint8Array): Uint32Array {
    const numbers = new Uint32Array(this.#count);
    let next = 0;
    for (let old = 0; old < this.#count; old++) {
      if (marked[old] === 0) continue;
      this.#file[next] = this.#file[old]!;
      this.#at[next] = this.#at[old]!;
      this.#stored[next] = this.#stored[old]!;
      numbers[old] = next++;
    }
    this.#resize(next, next);
    return numbers;
  }

  isZero(frame: number): boolean {
    return this.#stored[frame] === ZERO;
  }

  /** A name of a frame that it keeps whatever its number. */
  key(frame: number): number {
    return this.#file[frame]! * 2 ** 40 + this.#at[frame]!;
  }

  /** Parts data frames into those that `load` may read at once; each is named once. */
  groups(frames: Iterable<number>): number[][] {
    const groups: number[][] = [];
    const latest = new Map<number, { frames: number[]; from: number; to: number }>();
    for (const frame of new Set(frames)) {
      const file = this.#file[frame]!;
      const at = this.#at[frame]!;
      const end = at + FRAME_HEAD_SIZE + this.#stored[frame]!;
      const before = latest.get(file);
      if (before?.to === at && end - before.from <= READ_AT_ONCE) {
        before.frames.push(frame);
        before.to = end;
      } else {
        const group = { frames: [frame], from: at, to: end };
        groups.push(group.frames);
        latest.set(file, group);
      }
    }
    return groups;
  }

  /** Reads one of the `groups`. Failures: `bad-log` when a frame isn't what it was; errors of the file system as they come. */
  async load(group: readonly number[]): Promise<Loaded> {
    const first = group[0]!;
    const last = group.at(-1)!;
    const from = this.#at[first]!;
    const file = this.#file[first]!;
    const places = group.map((frame) => this.#at[frame]! - from); // numbers may change meanwhile
    const buffer = this.#pool.take(this.#at[last]! + FRAME_HEAD_SIZE + this.#stored[last]! - from);
    try {
      await this.#files.read(file, buffer, from);
      const frames = new Map(group.map((frame, i) => [frame, loaded(buffer, places[i]!)] as const));
      return { frames, buffer };
    } catch (error) {
      this.#pool.give(buffer);
      if (!(error instanceof Failure)) throw error;
      throw new Failure('bad-log', `${this.#files.path(file)}, from ${from} on: ${error.message}`, { cause: error });
    }
  }

  /** Nobody may be reading. */
  close(): void {
    this.#files.close();
  }

  #reserve(count: number): void {
    const capacity = this.#at.length;
    if (count > capacity) this.#resize(this.#count, Math.max(count, Math.ceil(capacity * 1.5)));
  }

  #resize(count: number, capacity: number): void {
    const [file, at, stored] = [this.#file, this.#at, this.#stored];
    this.#file = new Uint32Array(capacity);
    this.#at = new Float64Array(capacity);
    this.#stored = new Uint32Array(capacity);
    this.#file.set(file.subarray(0, count));
    this.#at.set(at.subarray(0, count));
    this.#stored.set(stored.subarray(0, count));
    this.#count = count;
  }
}

function loaded(buffer: Buffer, at: number): LoadedFrame {
  const headBytes = buffer.subarray(at, at + FRAME_HEAD_SIZE);
  const unverified = decodeFrameHead(headBytes);
  const payload = buffer.subarray(at + FRAME_HEAD_SIZE, at + FRAME_HEAD_SIZE + unverified.stored);
  const { head } = verifyFrame(headBytes, unverified, payload);
  if (head.kind !== FrameKind.data) throw new Failure('bad-log', `a frame of kind ${head.kind} is none of data`);
  return { head, data: unpack(head, payload), lent: head.codec === Codec.none };
}
