/**
 * What two sides compare to find out which pages of a block differ: short digests, salted. A digest of 8 bytes is enough because its salt is
 * chosen after the pages were written: nobody can prepare two pages that look the same (that takes 2^32 tries where there is
 * no salt), and by chance a page that differs looks the same once in 2^64.
 */
import { digestOf } from '../lib/digest.ts';
import type { Extent } from '../model/extent.ts';

/** Bytes of disk that one page digest stands for; the disk's last page may be short. */
export const PAGE = 4096;
export const PAGE_DIGEST_BYTES = 8;
/** Bytes of a salt: random, another for every question. */
export const SALT_BYTES = 16;

/** Of the pages in `bytes`, which begin at a page; only the last may be short. */
export function pageDigests(salt: Buffer, bytes: Buffer): Buffer {
  const out = Buffer.allocUnsafe(Math.ceil(bytes.length / PAGE) * PAGE_DIGEST_BYTES);
  for (let at = 0, to = 0; at < bytes.length; at += PAGE, to += PAGE_DIGEST_BYTES) {
    digestOf(salt, bytes.subarray(at, at + PAGE)).copy(out, to, 0, PAGE_DIGEST_BYTES);
  }
  return out;
}

/** The whole pages of an extent, or undefined; at the end of the disk (of `size` bytes) the last, short one, too. */
export function wholePages({ offset, length }: Extent, size: number): Extent | undefined {
  const end = offset + length;
  const from = Math.ceil(offset / PAGE) * PAGE;
  const to = end === size ? end : Math.floor(end / PAGE) * PAGE;
  return to > from ? { offset: from, length: to - from } : undefined;
}
