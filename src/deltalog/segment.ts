/**
 * Segments: runs of whole frames that several threads put into one log at the same time. Each takes a place in the file
 * from a counter that all share, so that the segments lie there without gaps, in whatever order they were ready.
 */
import type { FileHandle } from 'node:fs/promises';
import { Codec, encodeFrameHead, FrameKind, type Place as Source } from './frame.ts';
import { Packer } from './pack.ts';
import { writeAll } from '../lib/write-all.ts';

/** Plain bytes up to this many are copied, so that small frames go to the file together. */
const COPIED = 128 * 1024;
/** Memory that frames are packed into, and that is used again when they are in the file. */
const ARENA = 2.25 * 1024 * 1024;

/** A segment in its place: what whoever ends the log has to know of it. Plain data, for another thread. */
export interface WrittenSegment {
  /** Where in the file it begins, and its bytes. */
  readonly at: number;
  readonly bytes: number;
  /** Heads of its frames, FRAME_HEAD_SIZE each, in order. */
  readonly heads: Uint8Array;
}

/** Where the next segment goes, for all threads. */
export class Place {
  readonly #next: BigUint64Array;

  /** @param shared 8 bytes. */
  constructor(shared: SharedArrayBuffer) {
    this.#next = new BigUint64Array(shared);
  }

  /** @param at bytes that the file has already. */
  static startAt(at: number): SharedArrayBuffer {
    const shared = new SharedArrayBuffer(8);
    new BigUint64Array(shared)[0] = BigInt(at);
    return shared;
  }

  /** Takes the next `bytes` of the file; gives where they begin. */
  take(bytes: number): number {
    return Number(Atomics.add(this.#next, 0, BigInt(bytes)));
  }
}

export class Segment {
  readonly #packer = new Packer();
  #buffers: Buffer[] = [];
  #heads: Buffer[] = [];
  #bytes = 0;
  /** What holds the frames gathered: of the last one so many bytes are used. */
  #arenas: Buffer[] = [];
  #used = 0;
  readonly #spare: Buffer[] = [];

  /** Bytes gathered. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Adds bytes of a disk, packed with zstd's `level` (0: as they are) where that is worth it.
   * @param pieces digests of the data's pieces, where they are known.
   * @returns whether `data` itself has to stay as it is until the segment is written.
   */
  data(disk: number, offset: number, data: Buffer, level: number, pieces?: Buffer): boolean {
    const packed = this.#packer.pack(data, level, (length) => this.#room(length));
    const codec = packed === undefined ? Codec.none : Codec.zstd;
    const payload = packed ?? (data.length <= COPIED ? this.#copy(data) : data);
    if (payload !== data) this.#used += payload.length;
    const head = { kind: FrameKind.data, codec, disk, stored: payload.length, offset, length: data.length };
    this.#add(encodeFrameHead(head, payload, codec === Codec.none ? pieces : undefined), payload);
    return payload === data;
  }

  /** Adds a run that reads as zeros. */
  zero(disk: number, offset: number, length: number): void {
    const head = { kind: FrameKind.zero, codec: Codec.none, disk, stored: 0, offset, length };
    this.#add(encodeFrameHead(head, NOTHING));
  }

  /** Adds whole blocks that a data frame of the log has for another place. */
  reference(disk: number, offset: number, length: number, source: Source): void {
    const head = { kind: FrameKind.reference, codec: Codec.none, disk, stored: 0, offset, length, source };
    this.#add(encodeFrameHead(head, NOTHING));
  }

  /** Writes what was gathered into its place and begins anew. */
  async write(file: FileHandle, place: Place): Promise<WrittenSegment> {
    const { buffers, heads, bytes } = { buffers: this.#buffers, heads: Buffer.concat(this.#heads), bytes: this.#bytes };
    const arenas = this.#arenas;
    this.#buffers = [];
    this.#heads = [];
    this.#bytes = 0;
    this.#arenas = [];
    const at = place.take(bytes);
    await writeAll(file, buffers, at);
    this.#spare.push(...arenas.filter(({ length }) => length === ARENA));
    return { at, bytes, heads };
  }

  #copy(data: Buffer): Buffer {
    const room = this.#room(data.length);
    return room.subarray(0, data.copy(room));
  }

  /** Memory of at least so many bytes, which nobody else uses until the segment is written. */
  #room(length: number): Buffer {
    const last = this.#arenas.at(-1);
    if (last !== undefined && last.length - this.#used >= length) return last.subarray(this.#used);
    const arena =
      length > ARENA ? Buffer.allocUnsafeSlow(length) : (this.#spare.pop() ?? Buffer.allocUnsafeSlow(ARENA));
    this.#arenas.push(arena);
    this.#used = 0;
    return arena;
  }

  #add(head: Buffer, payload?: Buffer): void {
    this.#heads.push(head);
    this.#buffers.push(head);
    if (payload !== undefined) this.#buffers.push(payload);
    this.#bytes += head.length + (payload?.length ?? 0);
  }
}

const NOTHING = Buffer.alloc(0);
