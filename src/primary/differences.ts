/** Finds out which parts of what was read the replica doesn't have, by the digests of whole blocks. */
import { ZERO_BLOCK } from '../digests/digest-file.ts';
import { digest, DIGEST_SIZE } from '../lib/digest.ts';
import type { Place } from '../deltalog/frame.ts';
import { pieces, type Extent } from '../model/extent.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import type { Piece } from '../qemu/disk.ts';
import type { Learning } from './learned.ts';

/** Longer runs of zeros aren't looked at, bytes: they cost a frame of 48 bytes, however long they are. */
export const LONG_ZEROS = 1024 * 1024;

/** What has to be in the log. */
export interface Run extends Extent {
  /** Where the log has the same bytes. */
  readonly source?: Place | undefined;
  /** Digests of its blocks, where all of them are whole: a frame's of plain data is made of them. */
  readonly digests?: readonly Buffer[] | undefined;
}

/** Where the log has a block with that digest already; undefined: nowhere, it will be in it as data. */
export type FindTwin = (digest: Buffer, offset: number, data: Buffer) => Place | undefined;

export interface Differing {
  /** Whole blocks that were compared, and how many of them weren't the same. */
  readonly compared: number;
  readonly different: number;
  /** Bytes of those that were the same. */
  readonly sameBytes: number;
  /** What has to be in the log, in order. */
  readonly runs: readonly Run[];
}

/**
 * @param piece of a disk of `size` bytes. @param theirs of the blocks from that on in which the piece begins, zeros where nothing is known.
 * @param learning takes the digests of the piece's blocks. @param toldBy `known`: what is the same was known already.
 * @param twinOf asked about each whole block of data that differs.
 */
export function differencesOf(
  piece: Piece,
  size: number,
  theirs: Buffer,
  learning: Learning,
  toldBy: 'known' | 'replica',
  twinOf: FindTwin = () => undefined,
): Differing {
  const first = Math.floor(piece.offset / DIGEST_BLOCK);
  const runs: GrowingRun[] = [];
  let compared = 0;
  let different = 0;
  let sameBytes = 0;
  for (const part of pieces([{ offset: piece.offset, length: piece.length }], DIGEST_BLOCK)) {
    const block = Math.floor(part.offset / DIGEST_BLOCK);
    if (!isWhole(part, size)) {
      learning.unclear({ from: block, to: block + 1 });
      append(runs, part, undefined);
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
    const refers = !piece.zero && part.length === DIGEST_BLOCK;
    append(runs, part, own, refers ? twinOf(own, part.offset, bytesOf(piece, part)) : undefined);
  }
  return { compared, different, sameBytes, runs };
}

/** The disk's last block may be short. */
function isWhole({ offset, length }: Extent, size: number): boolean {
  return offset % DIGEST_BLOCK === 0 && (length === DIGEST_BLOCK || offset + length === size);
}

function digestOfBlock(piece: Piece, part: Extent): Buffer {
  if (!piece.zero) return digest(bytesOf(piece, part));
  return part.length === DIGEST_BLOCK ? ZERO_BLOCK : digest(Buffer.alloc(part.length));
}

function bytesOf(piece: Piece & { readonly zero: false }, { offset, length }: Extent): Buffer {
  return piece.data.subarray(offset - piece.offset, offset - piece.offset + length);
}

/** Puts a part behind those before it; one run with the last where it goes on as that does. */
function append(runs: GrowingRun[], { offset, length }: Extent, digest: Buffer | undefined, source?: Place): void {
  const last = runs.at(-1);
  if (last === undefined || last.offset + last.length !== offset || !goesOn(last, source)) {
    runs.push({ offset, length, source, digests: digest === undefined ? undefined : [digest] });
    return;
  }
  last.length += length;
  if (digest === undefined) last.digests = undefined;
  else last.digests?.push(digest);
}

interface GrowingRun {
  readonly offset: number;
  length: number;
  readonly source: Place | undefined;
  digests: Buffer[] | undefined;
}

function goesOn(last: GrowingRun, source: Place | undefined): boolean {
  if (last.source === undefined || source === undefined) return last.source === source;
  return last.source.disk === source.disk && last.source.offset + last.length === source.offset;
}
