import { closeSync, openSync, readSync, statSync } from 'node:fs';

/** Something the guest announced, and between which two moments of this machine's clock (ms since the epoch). */
export interface Announced {
  readonly number: number;
  /** It hadn't happened yet. */
  readonly notBefore: number;
  /** It had happened. */
  readonly seen: number;
}

const POLL_MS = 5;
const CHUNK = 64 * 1024;
const LINE = /^(BEG|REC) (\d+) \d+$/;

/**
 * Watches a guest from outside: it reads what the workload announces on its second port (a file on the host), and
 * stamps it with this machine's clock.
 *
 * The guest announces `BEG n` before it writes anything of record n, `REC n` once the record is durable on both disks,
 * and its write to the port returns only after QEMU has put it into the file. So: `REC n` in the file = record n is
 * complete; no `BEG n` in the file = nothing of record n has been written.
 */
export class Witness implements Disposable {
  readonly #path: string;
  readonly #timer: NodeJS.Timeout;
  readonly #begun: Announced[] = [];
  readonly #completed: Announced[] = [];
  #position = 0;
  #inode: number | undefined;
  #rest = '';
  /** When the file was last seen without the lines that come next. */
  #empty: number;

  /** @param path the announcements as seen from outside: `host.path(guest.announcements)`; it may not exist yet. */
  constructor(path: string) {
    this.#path = path;
    this.#empty = Date.now();
    this.#timer = setInterval(() => this.poll(), POLL_MS);
    this.#timer.unref();
  }

  /** Records begun and completed so far, in the order of announcement. */
  get begun(): readonly Announced[] {
    return this.#begun;
  }

  get completed(): readonly Announced[] {
    return this.#completed;
  }

  /** Number of the last record that was complete before the moment `time`, for sure; 0 = none. */
  lastCompleteBefore(time: number): number {
    return this.#completed.findLast(({ seen }) => seen <= time)?.number ?? 0;
  }

  /** Number of the first record that was begun after the moment `time`, for sure; undefined = none yet. */
  firstBegunAfter(time: number): number | undefined {
    return this.#begun.find(({ notBefore }) => notBefore >= time)?.number;
  }

  /** Reads what is new, now. */
  poll(): void {
    const before = Date.now();
    const text = this.#readNew();
    const after = Date.now();
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) {
      const match = LINE.exec(line);
      if (match === null) continue; // cut by a crash of the guest, with the next boot's first line behind it
      const list = match[1] === 'BEG' ? this.#begun : this.#completed;
      list.push({ number: Number(match[2]), notBefore: this.#empty, seen: after });
    }
    this.#empty = before;
  }

  /** Reads for the last time. */
  stop(): void {
    clearInterval(this.#timer);
    this.poll();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #readNew(): string {
    const stat = statSync(this.#path, { throwIfNoEntry: false });
    if (stat === undefined) return '';
    if (stat.ino !== this.#inode || stat.size < this.#position) {
      this.#inode = stat.ino;
      this.#position = 0;
      this.#rest = '';
    }
    if (stat.size === this.#position) return '';
    const file = openSync(this.#path, 'r');
    try {
      const buffer = Buffer.alloc(CHUNK);
      let text = '';
      for (;;) {
        const length = readSync(file, buffer, 0, CHUNK, this.#position);
        if (length === 0) return text;
        this.#position += length;
        text += buffer.toString('latin1', 0, length);
      }
    } finally {
      closeSync(file);
    }
  }
}
