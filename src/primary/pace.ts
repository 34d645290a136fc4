/**
 * Holds the reading of a VM's disks to what its administrator allows, over all its disks and lanes together: a lane gets its next
 * work item only once that may be read, and items are small enough for reads to come evenly.
 */
import { TokenBucket } from '../lib/token-bucket.ts';
import { totalLength, type ChangedExtent } from '../model/extent.ts';
import type { ReadLimit } from '../model/read-limit.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import { READ_BYTES, WHOLE_ITEM, type ItemSize, type Work } from './work.ts';

/** An item is read at full speed; this much of the limit's time it may take, ms. */
const ITEM_MS = 100;

/** How large items are under a limit. */
export function itemSize({ bytesPerSecond, iops }: ReadLimit): ItemSize {
  const reads = iops === 0 ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor((iops * ITEM_MS) / 1000));
  const most = bytesPerSecond === 0 ? WHOLE_ITEM.bytes : (bytesPerSecond * ITEM_MS) / 1000;
  const bytes = Math.min(WHOLE_ITEM.bytes, most, reads * READ_BYTES);
  // Smaller ones would make more reads of the same bytes.
  const least = iops === 0 ? DIGEST_BLOCK : READ_BYTES;
  return {
    bytes: Math.max(least, Math.floor(bytes / DIGEST_BLOCK) * DIGEST_BLOCK),
    extents: Math.min(WHOLE_ITEM.extents, reads),
  };
}

/** How long reading extents takes under a limit at the least, ms. */
export function readingMs(extents: readonly ChangedExtent[], limit: ReadLimit): number {
  const { bytes, reads } = costOf(extents);
  const bytesMs = limit.bytesPerSecond === 0 ? 0 : (bytes / limit.bytesPerSecond) * 1000;
  return Math.max(bytesMs, limit.iops === 0 ? 0 : (reads / limit.iops) * 1000);
}

/** Of one VM; it lasts from one log to the next. */
export class Pace {
  readonly #bytes: TokenBucket;
  readonly #reads: TokenBucket;

  constructor(now: () => number = () => performance.now()) {
    this.#bytes = new TokenBucket(ITEM_MS, now);
    this.#reads = new TokenBucket(ITEM_MS, now);
  }

  /** Takes note that an item is read; gives the ms to wait before. */
  take({ extents }: Work, limit: ReadLimit): number {
    const { bytes, reads } = costOf(extents);
    return Math.max(this.#bytes.take(bytes, limit.bytesPerSecond), this.#reads.take(reads, limit.iops));
  }
}

/** What is to be read: zeros aren't. */
function costOf(extents: readonly ChangedExtent[]): { bytes: number; reads: number } {
  const data = extents.filter(({ zero }) => !zero);
  let reads = 0;
  for (const { offset, length } of data) {
    reads += Math.ceil((offset + length) / READ_BYTES) - Math.floor(offset / READ_BYTES);
  }
  return { bytes: totalLength(data), reads };
}
