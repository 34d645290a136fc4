/**
 * Digests of the blocks of a disk that a lane writes, from what passes by. Where a block is covered in part only, it is read once
 * all is written.
 */
import { ZERO_BLOCK } from '../digests/digest-file.ts';
import type { BlockRange, DigestRun } from '../digests/digest-pages.ts';
import { digest } from '../lib/digest.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';

/** Blocks in one run of zeros at most. */
const ZERO_RUN = 16_384;

export class LogDigests {
  readonly #size: number;
  readonly #runs: DigestRun[] = [];
  readonly #edges = new Set<number>();

  /** @param size of the disk, bytes. */
  constructor(size: number) {
    this.#size = size;
  }

  /** These bytes are written. @param known gives the digests of whole blocks among them, where somebody has made them. */
  data(offset: number, bytes: Buffer, known: (from: number, count: number) => Buffer | undefined): void {
    // The disk's last block may be short.
    const toEnd = offset + bytes.length === this.#size;
    const { from, to } = this.#whole(offset, bytes.length, toEnd);
    if (to <= from) return;
    this.#runs.push({ from, digests: known(from, to - from) ?? digestsOf(bytes, offset, from, to) });
  }

  /** These bytes are zeros now. */
  zero(offset: number, length: number): void {
    const { from, to } = this.#whole(offset, length, false);
    for (let at = from; at < to; at += ZERO_RUN) {
      this.#runs.push({ from: at, digests: Buffer.alloc(Math.min(ZERO_RUN, to - at) * ZERO_BLOCK.length, ZERO_BLOCK) });
    }
  }

  /** Blocks that have to be read, in order. */
  unseen(): BlockRange[] {
    const out: { from: number; to: number }[] = [];
    for (const block of [...this.#edges].toSorted((a, b) => a - b)) {
      const last = out.at(-1);
      if (last?.to === block) last.to++;
      else out.push({ from: block, to: block + 1 });
    }
    return out;
  }

  /** Takes in the digests of blocks that were read. */
  seen(run: DigestRun): void {
    this.#runs.push(run);
  }

  /** All that was written here, in no order. */
  get runs(): readonly DigestRun[] {
    return this.#runs;
  }

  /** The blocks that are covered whole; the others are remembered. */
  #whole(offset: number, length: number, toEnd: boolean): BlockRange {
    const end = offset + length;
    const first = Math.floor(offset / DIGEST_BLOCK);
    const last = Math.ceil(end / DIGEST_BLOCK);
    const from = Math.ceil(offset / DIGEST_BLOCK);
    const to = toEnd ? last : Math.floor(end / DIGEST_BLOCK);
    if (first < from) this.#edges.add(first);
    if (to < last) this.#edges.add(last - 1);
    return { from, to };
  }
}

function digestsOf(bytes: Buffer, offset: number, from: number, to: number): Buffer {
  const digests: Buffer[] = [];
  for (let block = from; block < to; block++) {
    const start = block * DIGEST_BLOCK - offset;
    digests.push(digest(bytes.subarray(start, start + DIGEST_BLOCK)));
  }
  return Buffer.concat(digests);
}
