/** Digests of a disk's blocks, read from the disk itself. */
import { workerModule, type Lanes } from '../lanes/lanes.ts';
import { digest } from '../lib/digest.ts';
import { Failure } from '../model/failure.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';
import { allExtents, readPieces } from '../qemu/disk.ts';
import type { NbdAddress, NbdClient } from '../qemu/nbd/client.ts';
import { ZERO_BLOCK } from './digest-file.ts';

const TASK = { module: workerModule(import.meta.url, './read-digests'), name: 'readDigestsOf' };

export interface BlocksToRead {
  readonly address: NbdAddress;
  /** The first block, and how many. */
  readonly from: number;
  readonly count: number;
}

/** DIGEST_BYTES for each block, read in a lane. */
export async function readDigests(lanes: Lanes, blocks: BlocksToRead, signal?: AbortSignal): Promise<Buffer> {
  const read = await lanes.run<Uint8Array>(TASK, blocks, signal === undefined ? {} : { signal });
  return Buffer.from(read.buffer, read.byteOffset, read.byteLength);
}

/** Digests of `count` blocks from block `from` on, read from the disk. */
export async function digestBlocks(client: NbdClient, from: number, count: number): Promise<Buffer> {
  const start = from * DIGEST_BLOCK;
  const end = Math.min(client.size, start + count * DIGEST_BLOCK);
  const out = Buffer.alloc(count * DIGEST_BYTES);
  const gathered = Buffer.alloc(DIGEST_BLOCK);
  let at = start;
  for await (const piece of readPieces(client, await allExtents(client, start, end))) {
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
