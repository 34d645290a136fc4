/**
 * The blocks that a log holds already, by digest: so that one with the same bytes becomes a reference to it. All lanes that write
 * the log share it. Two blocks are the same where their digests are, 128 bits of BLAKE3: what all else here relies on, too.
 */
import { REFERENCE_BLOCK, type Place } from '../deltalog/frame.ts';
import { MAX_REFERENCED } from '../deltalog/references.ts';

/** Entries, a power of two: at least, and at most. */
const FEWEST = 1024;
const MOST = 1024 * 1024;
/** Entries that are looked at for one digest; if they are all another's it isn't entered. */
const PROBES = 16;

/** Of an entry, words of 32 bits: its state, disk, block (low and high) and digest. */
const WORDS = 8;
/** Before the entries: how many blocks have become references. */
const HEAD = 8;
const FREE = 0;
const BEING_WRITTEN = 1;
const THERE = 2;
/** A block that reads the same one page on packs to next to nothing by itself. */
const PAGE = 4096;

export class Twins {
  readonly #words: Int32Array;
  readonly #mask: number;

  /** @param shared memory of `memoryFor`. */
  constructor(shared: SharedArrayBuffer) {
    this.#words = new Int32Array(shared);
    this.#mask = (this.#words.length - HEAD) / WORDS - 1;
  }

  /** Memory for a log of about so many bytes of data: 32 bytes for each half of a block, 32 KiB to 32 MiB. */
  static memoryFor(bytes: number): SharedArrayBuffer {
    const wanted = (2 * bytes) / REFERENCE_BLOCK;
    let entries = FEWEST;
    while (entries < wanted && entries < MOST) entries *= 2;
    return new SharedArrayBuffer(4 * (HEAD + entries * WORDS));
  }

  /**
   * Where the log has a block with that digest. Undefined: nowhere that is known; `place` is entered then, and the caller puts
   * the block into the log, as data. Lanes that enter the same at the same time may both be told so.
   */
  find(digest: Buffer, place: Place): Place | undefined {
    const words = this.#words;
    const first = digest.readInt32LE(0);
    for (let i = 0; i < PROBES; i++) {
      const at = HEAD + ((first + i) & this.#mask) * WORDS;
      const state = Atomics.compareExchange(words, at, FREE, BEING_WRITTEN);
      if (state === FREE) {
        this.#enter(at, digest, place);
        return undefined;
      }
      if (state === THERE && this.#holds(at, digest)) return this.#count() ? this.#placeAt(at) : undefined;
    }
    return undefined;
  }

  #enter(at: number, digest: Buffer, { disk, offset }: Place): void {
    const words = this.#words;
    const block = offset / REFERENCE_BLOCK;
    words[at + 1] = disk;
    words[at + 2] = block | 0;
    words[at + 3] = Math.floor(block / 2 ** 32);
    for (let i = 0; i < 4; i++) words[at + 4 + i] = digest.readInt32LE(4 * i);
    Atomics.store(words, at, THERE);
  }

  #holds(at: number, digest: Buffer): boolean {
    for (let i = 0; i < 4; i++) if (this.#words[at + 4 + i] !== digest.readInt32LE(4 * i)) return false;
    return true;
  }

  #placeAt(at: number): Place {
    const block = (this.#words[at + 2]! >>> 0) + this.#words[at + 3]! * 2 ** 32;
    return { disk: this.#words[at + 1]!, offset: block * REFERENCE_BLOCK };
  }

  /** Whether the log may have one more. */
  #count(): boolean {
    return Atomics.add(this.#words, 0, 1) < MAX_REFERENCED;
  }
}

/** Whether a whole block of data is better packed than referred to: a reference takes 88 bytes of a log. */
export function packsToNothing(block: Buffer): boolean {
  return block.compare(block, PAGE, block.length, 0, block.length - PAGE) === 0;
}
