import { read } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { Failure } from '../model/failure.ts';

interface OpenFile {
  readonly handle: Promise<FileHandle>;
  users: number;
}

/** Files that are read at any time, of which only the latest used ones are open: a thousand files don't need a thousand descriptors. */
export class OpenFiles {
  readonly #most: number;
  readonly #paths: string[] = [];
  /** The latest used one last. */
  readonly #open = new Map<number, OpenFile>();
  readonly #closing = new Set<Promise<void>>();

  /** @param most files that are open at once, but for those that are just being read. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Takes a file in under the next number, from 0 on. It must be there, under that name, as long as it may be read. */
  add(path: string): number {
    return this.#paths.push(path) - 1;
  }

  path(file: number): string {
    return this.#paths[file]!;
  }

  /** Fills the target from `position` on. Failures: `bad-log` where the file ends too early; `io`, ENOENT as they come. */
  async read(file: number, target: Buffer, position: number): Promise<void> {
    const used = this.#use(file);
    try {
      const { fd } = await used.handle;
      let done = 0;
      while (done < target.length) {
        const count = await readOnce(fd, target, done, position + done);
        if (count === 0) throw new Failure('bad-log', `${this.#paths[file]} ends before ${position + target.length}`);
        done += count;
      }
    } finally {
      used.users--;
    }
  }

  /** Closes all. Nobody may be reading. */
  async close(): Promise<void> {
    for (const [file, { handle }] of this.#open) this.#end(file, handle);
    await Promise.all(this.#closing);
  }

  #use(file: number): OpenFile {
    const known = this.#open.get(file);
    const used = known ?? { handle: open(this.#paths[file]!, 'r'), users: 0 };
    used.users++;
    if (known !== undefined) this.#open.delete(file);
    else used.handle.catch(() => this.#open.delete(file)); // the reader tells; the next one tries again
    this.#open.set(file, used);
    if (this.#open.size > this.#most) this.#endOldest();
    return used;
  }

  #endOldest(): void {
    for (const [file, { handle, users }] of this.#open) {
      if (users > 0) continue;
      this.#end(file, handle);
      return;
    }
  }

  #end(file: number, handle: Promise<FileHandle>): void {
    this.#open.delete(file);
    const closing = handle
      .then((one) => one.close())
      .catch(() => undefined) // nothing was written
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }
}

/** By call-back: the promises of `fs` cost as much again as a read that the kernel has in memory. */
async function readOnce(fd: number, target: Buffer, at: number, position: number): Promise<number> {
  return await new Promise((resolve, reject) => {
    read(fd, target, at, target.length - at, position, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}
