/** Cuts what there is to read into work items, which lanes take one after the other. */
import { alignZeros, clip, type ChangedExtent } from '../model/extent.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';

/** Bytes of data in one work item at most: some tens of milliseconds of a lane's time. */
export const ITEM_BYTES = 16 * 1024 * 1024;
/** Bytes that are read in one go at most; a read doesn't cross a multiple of it. */
export const READ_BYTES = 1024 * 1024;

/** How many of so many lanes are worth their while for so many bytes. */
export function lanesFor(lanes: number, bytes: number): number {
  return Math.max(1, Math.min(lanes, Math.ceil(bytes / ITEM_BYTES)));
}

/** What one work item may hold of data. */
export interface ItemSize {
  readonly bytes: number;
  readonly extents: number;
}

export const WHOLE_ITEM: ItemSize = { bytes: ITEM_BYTES, extents: 4096 };

/** Digests of neighbouring blocks as the replica has them. Plain data. */
export interface Theirs {
  /** The first block. */
  readonly from: number;
  /** DIGEST_BYTES for each; zeros where they aren't known. */
  readonly digests: Uint8Array;
}

/** What one lane does in one go. Plain data, for another thread. */
export interface Work {
  /** Index of the disk. */
  readonly disk: number;
  readonly extents: readonly ChangedExtent[];
  /** Blocks whose digest is the same here are left out of the log. */
  readonly theirs?: Theirs;
}

/** Items of at most `most` each, in the order of the disk. Runs of zeros stay whole. */
export function* workOf(
  disk: number,
  extents: readonly ChangedExtent[],
  most = WHOLE_ITEM,
): Generator<Work, void, undefined> {
  let gathered: ChangedExtent[] = [];
  let bytes = 0;
  let dataExtents = 0;
  for (const extent of extents) {
    const end = extent.offset + extent.length;
    for (let at = extent.offset; at < end;) {
      const stop = extent.zero ? end : cutAt(at, most.bytes - bytes, end);
      gathered.push({ offset: at, length: stop - at, zero: extent.zero });
      if (!extent.zero) {
        bytes += stop - at;
        dataExtents++;
      }
      at = stop;
      const isFull = bytes >= most.bytes || dataExtents >= most.extents || gathered.length >= WHOLE_ITEM.extents;
      if (at === end && !isFull) continue;
      yield { disk, extents: gathered };
      gathered = [];
      bytes = 0;
      dataExtents = 0;
    }
  }
  if (gathered.length > 0) yield { disk, extents: gathered };
}

/** An extent that begins at `at` ends behind `most` bytes at the latest, at the border of a block if there is one: half of one has no digest. */
function cutAt(at: number, most: number, end: number): number {
  if (at + most >= end) return end;
  const border = Math.floor((at + most) / DIGEST_BLOCK) * DIGEST_BLOCK;
  return border > at ? border : at + most;
}

/**
 * Items that compare [from, to) of a disk with the replica's digests of it, block by block.
 * @param extents all of [from, to). @param theirs of the blocks from `from` on, which is a multiple of DIGEST_BLOCK, as `itemBytes` is.
 */
export function* comparison(
  disk: number,
  range: { readonly from: number; readonly to: number },
  extents: readonly ChangedExtent[],
  theirs: Buffer,
  itemBytes = ITEM_BYTES,
): Generator<Work, void, undefined> {
  const { from, to } = range;
  const aligned = alignZeros(extents, from, to, DIGEST_BLOCK);
  let next = 0;
  for (let at = from; at < to; at += itemBytes) {
    const stop = Math.min(to, at + itemBytes);
    while (next < aligned.length && aligned[next]!.offset + aligned[next]!.length <= at) next++;
    const own: ChangedExtent[] = [];
    for (let i = next; i < aligned.length && aligned[i]!.offset < stop; i++) own.push(clip(aligned[i]!, at, stop)!);
    const first = (at - from) / DIGEST_BLOCK;
    const count = Math.ceil((stop - at) / DIGEST_BLOCK);
    const digests = theirs.subarray(first * DIGEST_BYTES, (first + count) * DIGEST_BYTES);
    yield { disk, extents: own, theirs: { from: at / DIGEST_BLOCK, digests } };
  }
}

/** Where an item ends on its disk. */
export function endOf({ extents }: Work): number {
  const { offset, length } = extents.at(-1)!;
  return offset + length;
}
