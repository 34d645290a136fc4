/**
 * The pieces of a frame: what its digest is made of. Those of plain data are cut where the disk's blocks end, so that a block is hashed
 * once, for the frame and for whoever keeps the digests of blocks. See FORMAT.md.
 */
import { digest, DIGEST_SIZE, RunningDigest } from '../lib/digest.ts';

/** Bytes of a block of a disk. */
export const BLOCK = 64 * 1024;

/** Digests of the pieces of so many stored bytes, as these come in chunks of any size. */
export class Pieces {
  readonly #cut: boolean;
  readonly #digests: Buffer[] = [];
  /** Bytes to come, and those of them that end the piece under way. */
  #left: number;
  #inPiece: number;
  #running: RunningDigest | undefined;

  /** @param offset on the disk, of plain data; undefined: they are one piece. */
  constructor(stored: number, offset: number | undefined) {
    this.#cut = offset !== undefined;
    this.#left = stored;
    this.#inPiece = offset === undefined ? stored : Math.min(stored, BLOCK - (offset % BLOCK));
  }

  /** @param chunk no more than is to come. */
  update(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      const bytes = chunk.subarray(at, at + this.#inPiece);
      this.#take(bytes);
      at += bytes.length;
    }
  }

  /** DIGEST_SIZE bytes for each piece, once all bytes were here. */
  finish(): Buffer {
    return this.#digests.length === 1 ? this.#digests[0]! : Buffer.concat(this.#digests);
  }

  #take(bytes: Buffer): void {
    this.#left -= bytes.length;
    if (this.#running === undefined && bytes.length === this.#inPiece) {
      this.#digests.push(digest(bytes)); // in one call, as it mostly is
    } else {
      this.#running ??= new RunningDigest();
      this.#running.update(bytes);
      this.#inPiece -= bytes.length;
      if (this.#inPiece > 0) return;
      this.#digests.push(this.#running.finish());
      this.#running = undefined;
    }
    this.#inPiece = this.#cut ? Math.min(this.#left, BLOCK) : this.#left;
  }
}

/**
 * Of plain data at `offset`: the digests of `count` whole blocks of the disk from the `from`th on.
 * @param pieces of all of it.
 */
export function blocksIn(pieces: Buffer, offset: number, from: number, count: number): Buffer {
  const first = (from - Math.floor(offset / BLOCK)) * DIGEST_SIZE;
  return pieces.subarray(first, first + count * DIGEST_SIZE);
}
