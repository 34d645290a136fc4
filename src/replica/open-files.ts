import { closeSync, openSync, read, readSync } from 'node:fs';
import { Failure } from '../model/failure.ts';

/** A read that takes longer was no copy out of the kernel's memory, ms. */
const SLOW_MS = 0.5;
/** For so long after a slow read the thread isn't made to wait for another one, ms. */
const CAUTIOUS_MS = 500;

interface OpenFile {
  readonly fd: number;
  users: number;
}

/**
 * Files that are read at any time, of which only the latest used ones are open: a thousand files don't need a thousand descriptors.
 *
 * What the kernel has in memory is read at once: to have another thread read it costs more than the reading. When a read was
 * slow the next ones are left to other threads: a storage that has to fetch them must not hold this one up.
 */
export class OpenFiles {
  readonly #most: number;
  readonly #paths: string[] = [];
  /** The latest used one last. */
  readonly #open = new Map<number, OpenFile>();
  #cautiousUntil = -Infinity;

  /** @param most files that are open at once, but for those that are just being read. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Descriptors that it holds. */
  get open(): number {
    return this.#open.size;
  }

  /** Takes a file in under the next number, from 0 on. It must be there, under that name, as long as it may be read. */
  add(path: string): number {
    return this.#paths.push(path) - 1;
  }

  path(file: number): string {
    return this.#paths[file]!;
  }

  /** Fills the target from `position` on. Failures: `bad-log` where the file ends too early; errors of the file system. */
  async read(file: number, target: Buffer, position: number): Promise<void> {
    const used = this.#use(file);
    used.users++;
    try {
      let done = 0;
      while (done < target.length) {
        const count = await this.#readOnce(used.fd, target.subarray(done), position + done);
        if (count === 0) throw new Failure('bad-log', `${this.#paths[file]} ends before ${position + target.length}`);
        done += count;
      }
    } finally {
      used.users--;
    }
  }

  /** Closes all. Nobody may be reading. */
  close(): void {
    for (const { fd } of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }

  #use(file: number): OpenFile {
    const known = this.#open.get(file);
    const used = known ?? { fd: openSync(this.#paths[file]!, 'r'), users: 0 };
    if (known !== undefined) this.#open.delete(file);
    else if (this.#open.size >= this.#most) this.#closeOldest();
    this.#open.set(file, used);
    return used;
  }

  #closeOldest(): void {
    for (const [file, { fd, users }] of this.#open) {
      if (users > 0) continue;
      this.#open.delete(file);
      closeSync(fd);
      return;
    }
  }

  async #readOnce(fd: number, target: Buffer, position: number): Promise<number> {
    const began = performance.now();
    if (began < this.#cautiousUntil) return await readElsewhere(fd, target, position);
    const count = readSync(fd, target, 0, target.length, position);
    const now = performance.now();
    if (now - began > SLOW_MS) this.#cautiousUntil = now + CAUTIOUS_MS;
    return count;
  }
}

/** By call-back: the promises of `fs` cost as much again. */
async function readElsewhere(fd: number, target: Buffer, position: number): Promise<number> {
  return await new Promise((resolve, reject) => {
    read(fd, target, 0, target.length, position, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}
