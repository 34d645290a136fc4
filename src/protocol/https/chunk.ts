/**
 * The body of a strand: chunks, each a head of 16 bytes (offset in the log, 8 bytes; length, 4 bytes, little-endian; 4 zero
 * bytes) and its bytes. They ascend. A chunk without bytes says where the log ends.
 */
import { Failure } from '../../model/failure.ts';

const HEAD_SIZE = 16;
/** Most bytes of one chunk. */
export const MAX_CHUNK = 1024 * 1024;

export function encodeChunkHead(offset: number, length: number): Buffer {
  const head = Buffer.alloc(HEAD_SIZE);
  head.writeBigUInt64LE(BigInt(offset), 0);
  head.writeUInt32LE(length, 8);
  return head;
}

/** Bytes of the log, and where in it they belong. */
export interface Piece {
  readonly offset: number;
  /** None: the log ends there. */
  readonly bytes: Uint8Array;
}

/** Takes the bytes of one strand as they arrive, in parts of any size. */
export class ChunkReader {
  readonly #head = Buffer.alloc(HEAD_SIZE);
  #headBytes = 0;
  /** Of what comes next, as far as is known: behind what came. */
  #offset = 0;
  #left = 0;

  /** Whether what came ends with a whole chunk. */
  get isBetween(): boolean {
    return this.#headBytes === 0 && this.#left === 0;
  }

  /** The pieces in them, in order: each lies where it lay. Failure `bad-request`. */
  read(parts: readonly Uint8Array[]): Piece[] {
    const pieces: Piece[] = [];
    for (const part of parts) {
      for (let at = 0; at < part.length;) {
        if (this.#left === 0) {
          at += this.#takeHead(part, at);
          if (this.#headBytes === HEAD_SIZE) this.#begin(pieces);
        } else {
          const bytes = part.subarray(at, at + this.#left);
          pieces.push({ offset: this.#offset, bytes });
          this.#offset += bytes.length;
          this.#left -= bytes.length;
          at += bytes.length;
        }
      }
    }
    return pieces;
  }

  #takeHead(part: Uint8Array, at: number): number {
    const bytes = part.subarray(at, at + HEAD_SIZE - this.#headBytes);
    this.#head.set(bytes, this.#headBytes);
    this.#headBytes += bytes.length;
    return bytes.length;
  }

  #begin(pieces: Piece[]): void {
    const offset = this.#head.readBigUInt64LE(0);
    const length = this.#head.readUInt32LE(8);
    const zero = this.#head.readUInt32LE(12);
    if (offset > BigInt(Number.MAX_SAFE_INTEGER - MAX_CHUNK) || length > MAX_CHUNK || zero !== 0) {
      throw new Failure('bad-request', `A chunk of ${length} bytes at ${offset} is out of range`);
    }
    if (offset < this.#offset) throw new Failure('bad-request', `A chunk at ${offset} came after byte ${this.#offset}`);
    this.#headBytes = 0;
    this.#offset = Number(offset);
    this.#left = length;
    if (length === 0) pieces.push({ offset: this.#offset, bytes: new Uint8Array(0) });
  }
}
