/** The pages of a digest file (digest-file.ts): each is checked by itself and stands for PAGE_ENTRIES blocks of the disk. */
import type { FileHandle } from 'node:fs/promises';
import { DIGEST_SIZE, digestOf } from '../lib/digest.ts';
import { writeAll } from '../lib/write-all.ts';

export const PAGE = 4096;
export const PAGE_ENTRIES = PAGE / DIGEST_SIZE - 1;
/** Pages that are read and written at once: 256 KiB, for 1 GiB of disk. */
const SPAN = 64;

/** What is said of a block of which nothing is known. */
export const UNKNOWN: Buffer = Buffer.alloc(DIGEST_SIZE);

/** Digests of neighbouring blocks. */
export interface DigestRun {
  /** The first block. */
  readonly from: number;
  /** DIGEST_SIZE bytes for each. */
  readonly digests: Buffer;
}

/** Blocks `from` to `to` (not included). */
export interface BlockRange {
  readonly from: number;
  readonly to: number;
}

/** Entries `done` to `done + count` of what is to be written go into a page, from its byte `at` on. */
type Fill = (page: Buffer, at: number, done: number, count: number) => void;

interface Span {
  readonly number: number;
  readonly bytes: Buffer;
  readonly looked: Set<number>;
  readonly touched: Set<number>;
}

export class DigestPages {
  readonly #file: FileHandle;
  readonly #id: string;
  readonly #onStored: () => void;

  /** @param id of the file: pages of another one don't check out. @param onStored called whenever some pages were written. */
  constructor(file: FileHandle, id: string, onStored: () => void = () => undefined) {
    this.#file = file;
    this.#id = id;
    this.#onStored = onStored;
  }

  /** Digests of `count` blocks from block `from` on; UNKNOWN where they aren't known. */
  async read(from: number, count: number): Promise<Buffer> {
    const out = Buffer.alloc(count * DIGEST_SIZE);
    for (let done = 0; done < count;) {
      const first = Math.floor((from + done) / PAGE_ENTRIES);
      const last = Math.min(first + SPAN - 1, Math.floor((from + count - 1) / PAGE_ENTRIES));
      const bytes = await this.#bytes(first, last - first + 1);
      for (let number = first; number <= last; number++) {
        const page = pageOf(bytes, number - first);
        const entry = (from + done) % PAGE_ENTRIES;
        const length = Math.min(count - done, PAGE_ENTRIES - entry);
        if (this.#isSound(number, page)) {
          page.copy(out, done * DIGEST_SIZE, (entry + 1) * DIGEST_SIZE, (entry + 1 + length) * DIGEST_SIZE);
        }
        done += length;
      }
    }
    return out;
  }

  /** Takes digests in. Fastest where they are sorted by block. */
  async write(runs: Iterable<DigestRun>): Promise<void> {
    const edit = new Edit(this);
    for (const { from, digests } of runs) {
      await edit.put(from, digests.length / DIGEST_SIZE, (page, at, done, count) => {
        digests.copy(page, at, done * DIGEST_SIZE, (done + count) * DIGEST_SIZE);
      });
    }
    await edit.end();
  }

  /** From now on nothing is known of these blocks. */
  async forget(ranges: Iterable<BlockRange>): Promise<void> {
    const edit = new Edit(this);
    for (const { from, to } of ranges) {
      await edit.put(from, to - from, (page, at, _done, count) => page.fill(0, at, at + count * DIGEST_SIZE));
    }
    await edit.end();
  }

  /** For `Edit`. */
  async load(number: number): Promise<Span> {
    return { number, bytes: await this.#bytes(number * SPAN, SPAN), looked: new Set(), touched: new Set() };
  }

  /** For `Edit`: puts entries into a page of a span. A page that doesn't check out begins as all unknown. */
  fill(span: Span, inSpan: number, fill: (page: Buffer) => void): void {
    const page = pageOf(span.bytes, inSpan);
    if (!span.looked.has(inSpan)) {
      span.looked.add(inSpan);
      if (!this.#isSound(span.number * SPAN + inSpan, page)) page.fill(0);
    }
    fill(page);
    // Forgetting what isn't known makes no page of zeros: most of a sparse disk has none.
    if (span.touched.has(inSpan) || !page.equals(NOTHING)) span.touched.add(inSpan);
  }

  /** For `Edit`. */
  async store({ number, bytes, touched }: Span): Promise<void> {
    if (touched.size === 0) return;
    for (const inSpan of touched) {
      const page = pageOf(bytes, inSpan);
      this.#checksum(number * SPAN + inSpan, page).copy(page);
    }
    const first = Math.min(...touched);
    const changed = bytes.subarray(first * PAGE, (Math.max(...touched) + 1) * PAGE);
    await writeAll(this.#file, [changed], placeOf(number * SPAN + first));
    this.#onStored();
  }

  /** Zeros behind the end of the file. */
  async #bytes(first: number, count: number): Promise<Buffer> {
    const bytes = Buffer.alloc(count * PAGE);
    for (let filled = 0; filled < bytes.length;) {
      const { bytesRead } = await this.#file.read(bytes, filled, bytes.length - filled, placeOf(first) + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes;
  }

  #isSound(number: number, page: Buffer): boolean {
    return (
      !page.subarray(0, DIGEST_SIZE).equals(UNKNOWN) &&
      this.#checksum(number, page).equals(page.subarray(0, DIGEST_SIZE))
    );
  }

  #checksum(number: number, page: Buffer): Buffer {
    const salt = Buffer.alloc(DIGEST_SIZE + 8);
    salt.write(this.#id, 'hex');
    salt.writeBigUInt64LE(BigInt(number), DIGEST_SIZE);
    return digestOf(salt, page.subarray(DIGEST_SIZE));
  }
}

/** Changes to pages, a span at a time. */
class Edit {
  readonly #pages: DigestPages;
  #span: Span | undefined;

  constructor(pages: DigestPages) {
    this.#pages = pages;
  }

  async put(from: number, count: number, fill: Fill): Promise<void> {
    for (let done = 0; done < count;) {
      const number = Math.floor((from + done) / PAGE_ENTRIES);
      const entry = (from + done) % PAGE_ENTRIES;
      const length = Math.min(count - done, PAGE_ENTRIES - entry);
      const span = await this.#at(Math.floor(number / SPAN));
      const start = done;
      this.#pages.fill(span, number % SPAN, (page) => fill(page, (entry + 1) * DIGEST_SIZE, start, length));
      done += length;
    }
  }

  async end(): Promise<void> {
    if (this.#span !== undefined) await this.#pages.store(this.#span);
  }

  async #at(number: number): Promise<Span> {
    if (this.#span?.number === number) return this.#span;
    await this.end();
    this.#span = await this.#pages.load(number);
    return this.#span;
  }
}

const NOTHING = Buffer.alloc(PAGE);

/** Page `inBytes` of those in `bytes`. */
function pageOf(bytes: Buffer, inBytes: number): Buffer {
  return bytes.subarray(inBytes * PAGE, (inBytes + 1) * PAGE);
}

/** Where a page lies in the file; the header is before the first. */
function placeOf(number: number): number {
  return PAGE + number * PAGE;
}
