/** Where two pieces of memory differ, by pages: guests change 4 KiB where a bitmap says 64. */
import type { Extent } from '../model/extent.ts';

const PAGE = 4096;
/** Equal bytes between two differing pages that are taken with them: a frame of its own costs more. */
const JOINED = 2 * PAGE;

/**
 * Runs in which `before` and `after` differ, in order.
 * @param offset where on the disk both begin: pages are multiples of 4 KiB of the disk.
 */
export function differences(before: Buffer, after: Buffer, offset: number): Extent[] {
  const out: { offset: number; length: number }[] = [];
  for (let at = 0; at < before.length;) {
    const end = Math.min(before.length, at + PAGE - ((offset + at) % PAGE));
    if (before.compare(after, at, end, at, end) !== 0) {
      const last = out.at(-1);
      if (last !== undefined && offset + at - (last.offset + last.length) <= JOINED) {
        last.length = offset + end - last.offset;
      } else {
        out.push({ offset: offset + at, length: end - at });
      }
    }
    at = end;
  }
  return out;
}
