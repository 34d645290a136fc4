/**
 * Writes an item of a log into its disk. Doing it again changes nothing, so whatever interrupts it, it is simply done again.
 */
import { clip, type Extent } from '../model/extent.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import { isZero, type Item, type Part } from './log-share.ts';
import type { LogDigests } from './log-digests.ts';

/** Has the bytes of all parts of an item that aren't zeros. */
export interface Contents {
  of(part: Part): Buffer;
  /** Digests of `count` whole blocks of the disk within a part from block `from` on; undefined where they aren't known. */
  digestsOf(part: Part, from: number, count: number): Buffer | undefined;
}

/** Writes under way at once. */
const IN_FLIGHT = 4;

/**
 * @param toWrite what has to be written of it, in order; undefined for all.
 * @param digests told of the bytes as they pass by.
 */
export async function writeItem(
  item: Item,
  contents: Contents,
  toWrite: readonly Extent[] | undefined,
  client: NbdClient,
  digests: LogDigests,
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;
  let next = 0;
  for (const part of item.parts) {
    const { offset } = part;
    const end = offset + part.length;
    const data = isZero(part) ? undefined : contents.of(part);
    if (data === undefined) digests.zero(offset, part.length);
    else digests.data(offset, data, (from, count) => contents.digestsOf(part, from, count));
    const extents: Extent[] = [];
    if (toWrite === undefined) extents.push({ offset, length: part.length });
    for (; toWrite !== undefined && next < toWrite.length; next++) {
      const extent = toWrite[next]!;
      const own = clip(extent, offset, end);
      if (own !== undefined) extents.push(own);
      if (extent.offset + extent.length > end) break; // it goes on in the next part
    }
    for (const extent of extents) {
      while (underWay.size >= IN_FLIGHT) await Promise.race(underWay);
      if (failure !== undefined) break;
      const from = extent.offset - offset;
      const write: Promise<void> = (
        data === undefined
          ? client.writeZeroes(extent.offset, extent.length, { mayUnmap: true })
          : client.write(extent.offset, data.subarray(from, from + extent.length))
      )
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .finally(() => underWay.delete(write));
      underWay.add(write);
    }
  }
  // All have ended before it may be done again.
  await Promise.all(underWay);
  if (failure !== undefined) throw failure.error;
}
