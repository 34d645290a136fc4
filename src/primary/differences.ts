/** Finds out which parts of what was read the replica doesn't have, by the digests of whole blocks. */
import { ZERO_BLOCK } from '../digests/digest-file.ts';
import { digest, DIGEST_SIZE } from '../lib/digest.ts';
import { pieces, union, type Extent } from '../model/extent.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import type { Piece } from '../qemu/disk.ts';
import type { Learning } from './learned.ts';

/** Longer runs of zeros aren't looked at, bytes: they cost a frame of 48 bytes, however long they are. */
export const LONG_ZEROS = 1024 * 1024;

export interface Differing {
  /** Whole blocks that were compared, and how many of them weren't the same. */
  readonly compared: number;
  readonly different: number;
  /** Bytes of those that were the same. */
  readonly sameBytes: number;
  /** What has to be in the log, in order. */
  readonly runs: readonly Extent[];
}

/**
 * @param piece of a disk of `size` bytes. @param theirs of the blocks from that on in which the piece begins, zeros where nothing is known.
 * @param learning takes the digests of the piece's blocks. @param toldBy `known`: what is the same was known already.
 */
export function differencesOf(
  piece: Piece,
  size: number,
  theirs: Buffer,
  learning: Learning,
  toldBy: 'known' | 'replica',
): Differing {
  const first = Math.floor(piece.offset / DIGEST_BLOCK);
  const differing: Extent[] = [];
  let compared = 0;
  let different = 0;
  let sameBytes = 0;
  for (const part of pieces([{ offset: piece.offset, length: piece.length }], DIGEST_BLOCK)) {
    const block = Math.floor(part.offset / DIGEST_BLOCK);
    if (!isWhole(part, size)) {
      learning.unclear({ from: block, to: block + 1 });
      differing.push(part);
      continue;
    }
    const at = (block - first) * DIGEST_SIZE;
    const own = digestOfBlock(piece, part);
    compared++;
    if (own.equals(theirs.subarray(at, at + DIGEST_SIZE))) {
      sameBytes += part.length;
      if (toldBy === 'replica') learning.same.add(block, own);
      continue;
    }
    different++;
    learning.sent.add(block, own);
    differing.push(part);
  }
  return { compared, different, sameBytes, runs: union(differing) };
}

/** The disk's last block may be short. */
function isWhole({ offset, length }: Extent, size: number): boolean {
  return offset % DIGEST_BLOCK === 0 && (length === DIGEST_BLOCK || offset + length === size);
}

function digestOfBlock(piece: Piece, { offset, length }: Extent): Buffer {
  if (!piece.zero) return digest(piece.data.subarray(offset - piece.offset, offset - piece.offset + length));
  return length === DIGEST_BLOCK ? ZERO_BLOCK : digest(Buffer.alloc(length));
}
