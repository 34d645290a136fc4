/** Makes the bytes of a disk smaller, where that is worth the work. */
import { packedAtMost, packInto } from './zstd.ts';

/** Packed bytes are taken only if that saves an eighth: else reading them back isn't worth the work. */
const WORTH = 7 / 8;
/** Parts of a piece that are tried before the whole is: so many, of so many bytes. */
const SAMPLES = 4;
const SAMPLE = 8 * 1024;
/** For them. */
const sampleRoom = Buffer.allocUnsafeSlow(packedAtMost(SAMPLE));

/**
 * zstd, with a memory: what didn't pack is seldom alone (films, archives, encrypted disks). After a piece that wasn't worth it
 * only samples of the next one are tried, until one of those packs again.
 */
export class Packer {
  #inVain = false;

  /**
   * The packed bytes; undefined where the data had better be stored as it is.
   * @param level 1..19; 0: never.
   * @param roomFor gives memory of at least so many bytes; what is packed lies at its beginning.
   */
  pack(data: Buffer, level: number, roomFor: (length: number) => Buffer): Buffer | undefined {
    if (level === 0) return undefined;
    if (this.#inVain && data.length > SAMPLES * SAMPLE && !promises(data)) return undefined;
    const packed = packInto(data, level, roomFor(packedAtMost(data.length)));
    this.#inVain = packed.length > data.length * WORTH;
    return this.#inVain ? undefined : packed;
  }
}

function promises(data: Buffer): boolean {
  let packed = 0;
  for (let i = 0; i < SAMPLES; i++) {
    const at = Math.floor(((data.length - SAMPLE) * i) / (SAMPLES - 1));
    packed += packInto(data.subarray(at, at + SAMPLE), 1, sampleRoom).length;
  }
  return packed <= SAMPLES * SAMPLE * WORTH;
}
