/** Lane's side of a question about pages: reads and digests them. */
import type { LaneContext } from '../lanes/context.ts';
import { totalLength, type ChangedExtent } from '../model/extent.ts';
import { PAGE, PAGE_DIGEST_BYTES, pageDigests } from '../protocol/page-digest.ts';
import { readPieces } from '../qemu/disk.ts';
import { NbdClient } from '../qemu/nbd/client.ts';
import type { PagesToRead } from './page-digests.ts';

/** PAGE_DIGEST_BYTES for each page, in order. */
export async function pageDigestsOf({ address, salt, runs }: PagesToRead, context: LaneContext): Promise<Uint8Array> {
  const salted = Buffer.from(salt, 'hex');
  // Only the disk's last page may be short, and it is the last of all.
  const out = Buffer.alloc(Math.ceil(totalLength(runs) / PAGE) * PAGE_DIGEST_BYTES);
  const client = await NbdClient.connect(address);
  try {
    let at = 0;
    // Holes are read, too: a question is about what was written.
    const extents: ChangedExtent[] = runs.map(({ offset, length }) => ({ offset, length, zero: false }));
    for await (const piece of readPieces(client, extents, { memory: [] })) {
      context.signal.throwIfAborted();
      if (!piece.zero) at += pageDigests(salted, piece.data.subarray(0, piece.length)).copy(out, at);
    }
  } finally {
    client.destroy();
  }
  return out;
}
