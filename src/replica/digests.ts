/**
 * Digests of a disk, block by block: what two sides compare to find out where they differ.
 */
import { digest } from '../lib/digest.ts';
import { Failure } from '../model/failure.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';
import { changedExtents, readPieces } from '../qemu/disk.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';

/** Most blocks in one request: 4 GiB of disk, 1 MiB of digests. */
const MAX_BLOCKS = 65_536;

const ZERO_BLOCK = digest(Buffer.alloc(DIGEST_BLOCK));

/** Digests of `count` blocks from block `from` on. Failure `bad-request` for blocks that the disk hasn't got. */
export async function digestBlocks(client: NbdClient, from: number, count: number): Promise<Uint8Array> {
  const blocks = Math.ceil(client.size / DIGEST_BLOCK);
  const sound = Number.isSafeInteger(from) && Number.isSafeInteger(count) && from >= 0 && count >= 1;
  if (!sound || count > MAX_BLOCKS || from + count > blocks) {
    throw new Failure(
      'bad-request',
      `blocks ${from} to ${from + count} of a disk of ${blocks} (at most ${MAX_BLOCKS})`,
    );
  }
  const start = from * DIGEST_BLOCK;
  const end = Math.min(client.size, start + count * DIGEST_BLOCK);
  const out = Buffer.alloc(count * DIGEST_BYTES);
  const gathered = Buffer.alloc(DIGEST_BLOCK);
  let at = start;
  for await (const piece of readPieces(client, await changedExtents(client, null, start, end))) {
    // Pieces are cut where holes begin, blocks are not.
    for (let done = 0; done < piece.length;) {
      const inBlock = at % DIGEST_BLOCK;
      const length = Math.min(piece.length - done, DIGEST_BLOCK - inBlock);
      const size = Math.min(DIGEST_BLOCK, client.size - (at - inBlock));
      const place = ((at - inBlock - start) / DIGEST_BLOCK) * DIGEST_BYTES;
      if (piece.zero && length === DIGEST_BLOCK) {
        ZERO_BLOCK.copy(out, place);
      } else {
        if (piece.zero) gathered.fill(0, inBlock, inBlock + length);
        else piece.data.copy(gathered, inBlock, done, done + length);
        if (inBlock + length === size) digest(gathered.subarray(0, size)).copy(out, place);
      }
      done += length;
      at += length;
    }
  }
  if (at !== end) throw new Failure('internal', `digests were read up to ${at} instead of ${end}`);
  return out;
}
