import { ZERO_BLOCK } from '../digests/digest-file.ts';
import { digest, DIGEST_SIZE } from '../lib/digest.ts';
import { pieces, union, type Extent } from '../model/extent.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import type { Piece } from '../qemu/disk.ts';
import type { Theirs } from './work.ts';

/** Finds out which blocks of what was read aren't the replica's. */
export class Differences {
  readonly #from: number;
  readonly #theirs: Buffer;

  constructor({ from, digests }: Theirs) {
    this.#from = from;
    this.#theirs = Buffer.from(digests.buffer, digests.byteOffset, digests.length);
  }

  /** @param piece of whole blocks; only the disk's last may be short. */
  of(piece: Piece): { compared: number; different: number; runs: Extent[] } {
    const differing: Extent[] = [];
    let compared = 0;
    for (const block of pieces([{ offset: piece.offset, length: piece.length }], DIGEST_BLOCK)) {
      compared++;
      const at = (block.offset / DIGEST_BLOCK - this.#from) * DIGEST_SIZE;
      if (!digestOfBlock(piece, block).equals(this.#theirs.subarray(at, at + DIGEST_SIZE))) differing.push(block);
    }
    return { compared, different: differing.length, runs: union(differing) };
  }
}

function digestOfBlock(piece: Piece, { offset, length }: Extent): Buffer {
  if (!piece.zero) return digest(piece.data.subarray(offset - piece.offset, offset - piece.offset + length));
  return length === DIGEST_BLOCK ? ZERO_BLOCK : digest(Buffer.alloc(length));
}
