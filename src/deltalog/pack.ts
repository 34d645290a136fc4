/** Makes the bytes of a disk smaller, where that is worth the work. */
import { constants as zlib, zstdCompressSync } from 'node:zlib';

/** Packed bytes are taken only if that saves an eighth: else reading them back isn't worth the work. */
const WORTH = 7 / 8;
/** Parts of a piece that are tried before the whole is: so many, of so many bytes. */
const SAMPLES = 4;
const SAMPLE = 8 * 1024;
/** What zstd may need beyond the length of its input, at most. */
const SLACK = 4 * 1024;

/**
 * zstd, with a memory: what didn't pack is seldom alone (films, archives, encrypted disks). After a piece that wasn't worth it
 * only samples of the next one are tried, until one of those packs again.
 */
export class Packer {
  #inVain = false;

  /** The packed bytes, memory of their own; undefined where the data had better be stored as it is. @param level 1..19; 0: never. */
  pack(data: Buffer, level: number): Buffer | undefined {
    if (level === 0) return undefined;
    if (this.#inVain && data.length > SAMPLES * SAMPLE && !promises(data)) return undefined;
    const packed = compress(data, level);
    this.#inVain = packed.length > data.length * WORTH;
    return this.#inVain ? undefined : packed;
  }
}

function promises(data: Buffer): boolean {
  let packed = 0;
  for (let i = 0; i < SAMPLES; i++) {
    const at = Math.floor(((data.length - SAMPLE) * i) / (SAMPLES - 1));
    packed += compress(data.subarray(at, at + SAMPLE), 1).length;
  }
  return packed <= SAMPLES * SAMPLE * WORTH;
}

/** One output buffer that surely is large enough: otherwise the output comes in many that have to be joined. */
function compress(data: Buffer, level: number): Buffer {
  const params = { [zlib.ZSTD_c_compressionLevel]: level };
  return zstdCompressSync(data, { params, chunkSize: data.length + (data.length >> 8) + SLACK });
}
