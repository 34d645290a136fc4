/** The small file system that a host keeps its replicas on: it can be filled. */
import { open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';

const PIECE = 4 * 2 ** 20;

export class SmallDisk {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Leaves so many bytes free. */
  async fill(leave: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.path);
    const file = await open(this.#filler, 'w');
    try {
      for (let left = bavail * bsize - leave; left > 0; left -= PIECE) {
        await file.write(Buffer.alloc(Math.min(PIECE, left)));
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error; // others fill it at the same time
    } finally {
      await file.close();
    }
  }

  async clear(): Promise<void> {
    await rm(this.#filler, { force: true });
  }

  get #filler(): string {
    return join(this.path, 'filler');
  }
}
