/**
 * The undo logs of one view under names of its own (hard links), so that it can open them whenever it reads them: the replica may
 * unlink a log, or put a merged one in its place, and the view still has what it needs. The room comes back when the view is closed.
 */
import { link, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

const DIGITS = 8;

export class HeldLogs {
  readonly #directory: string;
  readonly #paths: string[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** @param directory made for it, on the file system of the logs; nothing may be there. */
  static async make(directory: string, logs: readonly string[]): Promise<HeldLogs> {
    await mkdir(directory, { mode: 0o700 });
    const held = new HeldLogs(directory);
    try {
      await held.add(logs);
      return held;
    } catch (error) {
      await held.remove();
      throw error;
    }
  }

  /** Oldest first. */
  get paths(): readonly string[] {
    return this.#paths;
  }

  /** Takes logs in, newer than all before, oldest first. They must not be unlinked before this resolves. */
  async add(logs: readonly string[]): Promise<void> {
    const first = this.#paths.length;
    const names = logs.map((_, i) => join(this.#directory, `${String(first + i).padStart(DIGITS, '0')}.undo`));
    await Promise.all(logs.map((path, i) => link(path, names[i]!)));
    this.#paths.push(...names);
  }

  async remove(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}
