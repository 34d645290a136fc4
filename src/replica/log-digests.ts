/**
 * Digests of the blocks that a log changes, from what passes by while it is written into the disks. Where several frames
 * cover a block, or one covers it in part, the block is read once all is written.
 */
import { FrameKind } from '../deltalog/frame.ts';
import type { FrameEntry } from '../deltalog/reader.ts';
import { digest, DIGEST_SIZE } from '../lib/digest.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import type { DigestRun } from './digest-file.ts';
import { ExtentIndex, type IndexedRun } from './extent-index.ts';

/** Blocks in one run of zeros at most. */
const ZERO_RUN = 16_384;
const ZERO_BLOCK = digest(Buffer.alloc(DIGEST_BLOCK));

/** Blocks `from` to `to` (not included). */
export interface BlockRange {
  readonly from: number;
  readonly to: number;
}

interface Touched extends BlockRange {
  readonly by: 'data' | 'zero' | 'parts';
}

export class LogDigests {
  readonly #size: number;
  /** Who covers what when all is written: of two frames the later one. */
  readonly #owners = new ExtentIndex<FrameEntry>();
  readonly #found = new Map<number, Buffer>();

  /** @param frames those of the disk, in the order of the log. */
  constructor(disk: Pick<ReplicatedDisk, 'size'>, frames: readonly FrameEntry[]) {
    this.#size = disk.size;
    const runs = frames.map((frame) => ({ offset: frame.offset, length: frame.length, source: frame }));
    this.#owners.add(runs.toReversed());
  }

  /** Looks at the bytes of a data frame of this disk. */
  see(frame: FrameEntry, data: Buffer): void {
    const end = frame.offset + frame.length;
    for (let block = Math.ceil(frame.offset / DIGEST_BLOCK); ; block++) {
      const { start, stop } = this.#bounds(block);
      if (start >= end || stop > end) return;
      const [owner] = this.#owners.lookup(start, stop - start);
      if (owner?.source !== frame || owner.length !== stop - start) continue;
      this.#found.set(block, digest(data.subarray(start - frame.offset, stop - frame.offset)));
    }
  }

  /** Blocks that have to be read. */
  unseen(): BlockRange[] {
    const out: { from: number; to: number }[] = [];
    for (const { from, to, by } of this.#touched()) {
      if (by !== 'parts') continue;
      const last = out.at(-1);
      if (last?.to === from) last.to = to;
      else out.push({ from, to });
    }
    return out;
  }

  /** Takes in the digests of blocks that were read. */
  seen(run: DigestRun): void {
    for (let i = 0; i * DIGEST_SIZE < run.digests.length; i++) {
      this.#found.set(run.from + i, run.digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE));
    }
  }

  /** All that the log changes, by block. */
  *runs(): Generator<DigestRun, void, undefined> {
    const zeros = Buffer.alloc(ZERO_RUN * DIGEST_SIZE, ZERO_BLOCK);
    for (const { from, to, by } of this.#touched()) {
      if (by !== 'zero') {
        for (let block = from; block < to; block++) yield { from: block, digests: this.#found.get(block)! };
        continue;
      }
      for (let at = from; at < to; at += ZERO_RUN) {
        const count = Math.min(ZERO_RUN, to - at);
        yield { from: at, digests: zeros.subarray(0, count * DIGEST_SIZE) };
      }
    }
  }

  /** Ranges of blocks by what covers them, in order, each block once. */
  *#touched(): Generator<Touched, void, undefined> {
    let next = 0; // blocks before it have been given
    for (const run of this.#owners.runs) {
      const [first, whole, after, end] = this.#rangeOf(run);
      if (next < whole) yield { from: Math.max(next, first), to: whole, by: 'parts' };
      if (after > whole) yield { from: whole, to: after, by: run.source.kind === FrameKind.zero ? 'zero' : 'data' };
      const covered = Math.max(whole, after);
      if (end > covered && end > next) yield { from: Math.max(next, covered), to: end, by: 'parts' };
      next = Math.max(next, end);
    }
  }

  /** The first block that a run touches, the first that it covers whole, the first behind those, the first behind all. */
  #rangeOf({ offset, length, source }: IndexedRun<FrameEntry>): [number, number, number, number] {
    const stop = offset + length;
    const first = Math.floor(offset / DIGEST_BLOCK);
    const end = Math.ceil(stop / DIGEST_BLOCK);
    const whole = Math.min(end, Math.ceil(offset / DIGEST_BLOCK));
    // The disk's last block may be short. As zeros it isn't like the others, and so is read.
    const toEnd = stop === this.#size && source.kind === FrameKind.data;
    const after = toEnd ? end : Math.floor(stop / DIGEST_BLOCK);
    return [first, whole, after, end];
  }

  #bounds(block: number): { start: number; stop: number } {
    const start = block * DIGEST_BLOCK;
    return { start, stop: Math.min(start + DIGEST_BLOCK, this.#size) };
  }
}
