/** What a lane learns of the disk while it reads: the digest of each block that goes into the log. */
import type { BlockRange, DigestRun } from '../digests/digest-pages.ts';
import { DIGEST_SIZE } from '../lib/digest.ts';

/** Blocks in the order in which they were read, each with its digest, DIGEST_SIZE bytes. Plain data, for another thread. */
export interface BlockDigests {
  readonly blocks: Float64Array;
  readonly digests: Uint8Array;
}

/** Of one disk, by one lane. Plain data. */
export interface Learned {
  /** These are in the log. */
  readonly sent: BlockDigests;
  /** These the replica has already, and isn't known to have. */
  readonly same: BlockDigests;
  /** Parts of these are in the log: what the replica will have in them isn't known here. */
  readonly unclear: readonly BlockRange[];
}

/** Gathers what is learned of one disk. */
export class Learning {
  readonly sent = new Gathered();
  readonly same = new Gathered();
  readonly #unclear: BlockRange[] = [];

  unclear(range: BlockRange): void {
    this.#unclear.push(range);
  }

  take(): Learned {
    return { sent: this.sent.take(), same: this.same.take(), unclear: this.#unclear };
  }
}

/** Grows by doubling, without a small object for each block. */
class Gathered {
  #blocks = new Float64Array(64);
  #digests = new Uint8Array(64 * DIGEST_SIZE);
  #count = 0;

  add(block: number, digest: Uint8Array): void {
    if (this.#count === this.#blocks.length) {
      const [blocks, digests] = [this.#blocks, this.#digests];
      this.#blocks = new Float64Array(2 * blocks.length);
      this.#blocks.set(blocks);
      this.#digests = new Uint8Array(2 * digests.length);
      this.#digests.set(digests);
    }
    this.#blocks[this.#count] = block;
    this.#digests.set(digest, this.#count * DIGEST_SIZE);
    this.#count++;
  }

  take(): BlockDigests {
    return { blocks: this.#blocks.slice(0, this.#count), digests: this.#digests.slice(0, this.#count * DIGEST_SIZE) };
  }
}

/** Neighbouring blocks as one run. */
export function* runsOf({ blocks, digests }: BlockDigests): Generator<DigestRun, void, undefined> {
  const bytes = Buffer.from(digests.buffer, digests.byteOffset, digests.length);
  for (let at = 0; at < blocks.length;) {
    let end = at + 1;
    while (end < blocks.length && blocks[end] === blocks[end - 1]! + 1) end++;
    yield { from: blocks[at]!, digests: bytes.subarray(at * DIGEST_SIZE, end * DIGEST_SIZE) };
    at = end;
  }
}

/** All blocks of which a log holds something. */
export function* rangesOf({ sent, unclear }: Learned): Generator<BlockRange, void, undefined> {
  for (const { from, digests } of runsOf(sent)) yield { from, to: from + digests.length / DIGEST_SIZE };
  yield* unclear;
}
