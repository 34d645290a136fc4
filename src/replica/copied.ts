/** What the references of an item make: bytes that the log's data frames have, and that are in the disks already. */
import type { Arena } from '../lib/arena.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import type { Item, Part } from './log-share.ts';

export class CopiedContents {
  readonly #bytes: ReadonlyMap<Part, Buffer>;

  private constructor(bytes: ReadonlyMap<Part, Buffer>) {
    this.#bytes = bytes;
  }

  /**
   * Once all data frames of the log are written: reading them here costs less than unpacking them again, a frame for a block of it.
   * @param memory where all of it lies: nobody may need what was read into it before.
   */
  static async read(
    { parts }: Item,
    client: (disk: number) => Promise<NbdClient>,
    memory: Arena,
  ): Promise<CopiedContents> {
    memory.clear();
    const bytes = new Map<Part, Buffer>();
    const reads: Promise<void>[] = [];
    for (const part of parts) {
      const { disk, offset } = part.frame.source!;
      const target = memory.take(part.length);
      bytes.set(part, target);
      reads.push((await client(disk)).readInto(target, offset + part.offset - part.frame.offset));
    }
    await Promise.all(reads);
    return new CopiedContents(bytes);
  }

  of(part: Part): Buffer {
    return this.#bytes.get(part)!;
  }

  digestsOf(): undefined {
    return undefined;
  }
}
