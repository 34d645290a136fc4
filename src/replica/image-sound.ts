/**
 * Whether the images of a replica are sound in what they keep about themselves: which cluster holds which bytes. A bit that flips there
 * lets a disk read, and worse, write in the wrong place. qemu-img mends it; whether what is read then is what was written is for the
 * digests to say, which know it all the same. What qemu-img can't mend is made anew (lost-image.ts).
 */
import type { Gate } from '../lib/gate.ts';
import { checkImage, imageInfo, opens, type ImageCheck, type ImageInfo } from '../qemu/image.ts';
import type { DiskEngine } from './engine.ts';
import { makeAnew, type LostImageParts, type MadeAnew } from './lost-image.ts';

export interface ImageParts extends LostImageParts {
  readonly engine: DiskEngine;
  /** Held while a log is applied. */
  readonly standstill: Gate;
}

export interface Mended {
  /** Places that were damaged; undefined where the image couldn't be read at all. */
  readonly corruptions: number | undefined;
  /** It couldn't be mended, and is a new one now. */
  readonly anew?: MadeAnew;
}

/** So often an image is mended before it is given up. */
const MENDINGS = 3;

export class ImagesSound {
  readonly #parts: ImageParts;

  constructor(parts: ImageParts) {
    this.#parts = parts;
  }

  /** Whether QEMU can't open the image of a disk, or won't write to it any more: quick, and past the lock of whoever has it open. */
  async isSuspect(disk: number): Promise<boolean> {
    const info = await infoOf(this.#parts.record.value.disks[disk]!.path);
    return info === undefined || info.corrupt === true;
  }

  /**
   * Checks the image of a disk, and mends what is wrong; views wait for that long. Gives it where it was more than room that nobody
   * uses. Failure `io` where its storage can't be read, `wrong-state` while the disks are released.
   */
  async mend(disk: number): Promise<Mended | undefined> {
    const { record, engine, standstill } = this.#parts;
    const { disks } = record.value;
    const { path } = disks[disk]!;
    return await standstill.run('checking an image', async () => {
      const info = await infoOf(path);
      if (info !== undefined && info.corrupt !== true && isSound(await checkImage(path, { inUse: true }))) {
        return undefined;
      }
      let mended: Mended | undefined;
      await engine.changeDisks(disks, async () => {
        mended = await this.#mend(disk, path);
      });
      return mended;
    });
  }

  async #mend(disk: number, path: string): Promise<Mended | undefined> {
    const info = await infoOf(path);
    if (info === undefined) return { corruptions: undefined, anew: await makeAnew(disk, this.#parts) };
    // What the daemon had not written yet looks like damage, too.
    const found = await checkImage(path);
    if (isSound(found) && info.corrupt !== true) return undefined;
    let left = found.corruptions;
    for (let i = 0; i < MENDINGS && (i === 0 || left > 0); i++) {
      left = (await checkImage(path, { repair: 'all' })).corruptions; // what is mended may bring more to light
    }
    const corruptions = Math.max(found.corruptions, info.corrupt === true ? 1 : 0);
    if (left > 0) return { corruptions, anew: await makeAnew(disk, this.#parts) };
    await this.#parts.digests.reseal(disk);
    return corruptions === 0 ? undefined : { corruptions };
  }
}

const isSound = ({ corruptions, leaks }: ImageCheck): boolean => corruptions === 0 && leaks === 0;

/** Undefined for a file that can be read, and is no image any more. Failures: those of its storage, as they come. */
async function infoOf(path: string): Promise<ImageInfo | undefined> {
  return (await opens(path)) ? await imageInfo(path, { format: 'qcow2', inUse: true }) : undefined;
}
