/**
 * Whether the images of a replica are sound in what they keep about themselves: which cluster holds which bytes. A bit that flips there
 * lets a disk read, and worse, write in the wrong place. qemu-img mends it; whether what is read then is what was written is for the
 * digests to say, which know it all the same.
 */
import type { Gate } from '../lib/gate.ts';
import { checkImage, type ImageCheck } from '../qemu/image.ts';
import type { Digests } from './digests.ts';
import type { DiskEngine } from './engine.ts';
import type { RecordFile } from './record.ts';

export interface ImageParts {
  readonly record: RecordFile;
  readonly engine: DiskEngine;
  readonly digests: Digests;
  /** Held while a log is applied. */
  readonly standstill: Gate;
}

/** What was found wrong with an image, and what is left of it. */
export interface Mended {
  readonly found: ImageCheck;
  readonly left: ImageCheck;
}

export class ImagesSound {
  readonly #parts: ImageParts;

  constructor(parts: ImageParts) {
    this.#parts = parts;
  }

  /**
   * Checks the image of a disk, and mends what is wrong; views wait for that long. Gives it where it was more than room that nobody
   * uses. Failure `io` where qemu-img can't read it at all.
   */
  async mend(disk: number): Promise<Mended | undefined> {
    const { record, engine, digests, standstill } = this.#parts;
    const { disks } = record.value;
    const { path } = disks[disk]!;
    return await standstill.run('checking an image', async () => {
      if (isSound(await checkImage(path, { inUse: true }))) return undefined;
      let mended: Mended | undefined;
      await engine.changeDisks(disks, async () => {
        // What the daemon had not written yet looks like that, too.
        const found = await checkImage(path);
        if (isSound(found)) return;
        mended = { found, left: await checkImage(path, { repair: 'all' }) };
        await digests.reseal(disk);
      });
      return mended === undefined || mended.found.corruptions === 0 ? undefined : mended;
    });
  }
}

const isSound = ({ corruptions, leaks }: ImageCheck): boolean => corruptions === 0 && leaks === 0;
