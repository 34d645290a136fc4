/**
 * The references of a log that is being verified: noted as they pass by, and held against its index once it is whole. What
 * this takes of memory is bounded, whatever the log claims.
 */
import { Failure } from '../model/failure.ts';
import type { FrameEntry } from './ending.ts';
import { FrameKind, REFERENCE_BLOCK, type FrameHead } from './frame.ts';

/** Most blocks in all references of a log: 64 GiB of disk. */
export const MAX_REFERENCED = 1024 * 1024;
/** Above every block's number: a disk has 2^52 bytes at most. */
const BLOCKS_OF_DISK = 2 ** 37;

export class References {
  /** Blocks that are made of others, and those others, one for each; `count` of each. */
  #targets = new Float64Array(0);
  #sources = new Float64Array(0);
  #count = 0;

  /** Blocks. */
  get count(): number {
    return this.#count;
  }

  /** Takes in one that is sound by itself. Failure `bad-log` where a log has too many. */
  add({ disk, offset, length, source }: FrameHead): void {
    const blocks = length / REFERENCE_BLOCK;
    if (this.#count + blocks > MAX_REFERENCED) {
      throw new Failure('bad-log', `the delta log refers to more than ${MAX_REFERENCED} blocks`);
    }
    while (this.#count + blocks > this.#targets.length) {
      this.#targets = doubled(this.#targets);
      this.#sources = doubled(this.#sources);
    }
    for (let i = 0; i < blocks; i++, this.#count++) {
      this.#targets[this.#count] = blockAt(disk, offset) + i;
      this.#sources[this.#count] = blockAt(source!.disk, source!.offset) + i;
    }
  }

  /** What is to be held against the index. Failure `bad-log` where two references make the same block. */
  check(): ReferenceCheck {
    return new ReferenceCheck(this.#targets.slice(0, this.#count), this.#sources.slice(0, this.#count));
  }
}

/**
 * Told of every frame of a log: whether each block that is referred to lies wholly in one data frame, and no other frame has
 * anything of it, or of a block that is a reference's.
 */
class ReferenceCheck {
  /** In order. */
  readonly #targets: Float64Array;
  /** In order, each once; with a data frame's mark where that was met. */
  readonly #sources: Float64Array;
  readonly #met: Uint8Array;

  constructor(targets: Float64Array, sources: Float64Array) {
    this.#targets = targets.sort();
    const twice = this.#targets.findIndex((block, i) => i > 0 && block === this.#targets[i - 1]);
    if (twice >= 0) throw bad(this.#targets[twice]!, 'is made by two references');
    this.#sources = sources.sort().filter((block, i) => i === 0 || block !== sources[i - 1]);
    this.#met = new Uint8Array(this.#sources.length);
  }

  /** The next frame. Failure `bad-log`. */
  frame({ kind, disk, offset, length }: FrameEntry): void {
    const first = blockAt(disk, offset);
    const last = blockAt(disk, offset + length - 1);
    for (let i = firstFrom(this.#sources, first); this.#sources[i]! <= last; i++) {
      const block = this.#sources[i]!;
      if (kind === FrameKind.reference) throw bad(block, 'is referred to and is a reference itself');
      if (kind === FrameKind.zero) throw bad(block, 'is referred to and is zeros, in part at least');
      const start = (block % BLOCKS_OF_DISK) * REFERENCE_BLOCK;
      if (offset > start || offset + length < start + REFERENCE_BLOCK || this.#met[i] === 1) {
        throw bad(block, 'is referred to and is not in one data frame alone');
      }
      this.#met[i] = 1;
    }
    if (kind !== FrameKind.reference && this.#targets[firstFrom(this.#targets, first)]! <= last) {
      throw bad(this.#targets[firstFrom(this.#targets, first)]!, 'is made by a reference and by another frame');
    }
  }

  /** That was the last. Failure `bad-log`. */
  end(): void {
    const missing = this.#met.indexOf(0);
    if (missing >= 0) throw bad(this.#sources[missing]!, 'is referred to and is not in the delta log');
  }
}

/** Where in sorted blocks those from `block` on begin. */
function firstFrom(blocks: Float64Array, block: number): number {
  let low = 0;
  let high = blocks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (blocks[middle]! < block) low = middle + 1;
    else high = middle;
  }
  return low;
}

function blockAt(disk: number, offset: number): number {
  return disk * BLOCKS_OF_DISK + Math.floor(offset / REFERENCE_BLOCK);
}

function doubled(blocks: Float64Array): Float64Array<ArrayBuffer> {
  const out = new Float64Array(Math.max(64, 2 * blocks.length));
  out.set(blocks);
  return out;
}

function bad(block: number, what: string): Failure {
  const disk = Math.floor(block / BLOCKS_OF_DISK);
  const offset = (block % BLOCKS_OF_DISK) * REFERENCE_BLOCK;
  return new Failure('bad-log', `the block at disk ${disk}+${offset} ${what}`);
}
