/** What a disk held at a moment: blocks, which moments share as far as they are the same. Many moments cost what has changed. */

export const BLOCK = 65_536;
const SECTOR = 512;
const ZEROS = Buffer.alloc(BLOCK);

export class Image {
  readonly size: number;
  readonly #blocks: readonly Buffer[];

  private constructor(size: number, blocks: readonly Buffer[]) {
    this.size = size;
    this.#blocks = blocks;
  }

  static zeros(size: number): Image {
    const count = Math.ceil(size / BLOCK);
    return new Image(
      size,
      Array.from({ length: count }, (_, i) => ZEROS.subarray(0, Math.min(BLOCK, size - i * BLOCK))),
    );
  }

  /** This image with other bytes from `offset` on. */
  with(offset: number, bytes: Buffer): Image {
    const blocks = [...this.#blocks];
    for (let at = offset; at < offset + bytes.length;) {
      const index = Math.floor(at / BLOCK);
      const block = Buffer.from(blocks[index]!);
      at += bytes.copy(block, at - index * BLOCK, at - offset);
      blocks[index] = block;
    }
    return new Image(this.size, blocks);
  }

  /** A copy of a range. */
  read(offset: number, length: number): Buffer {
    const target = Buffer.alloc(length);
    for (let at = offset; at < offset + length;) {
      const index = Math.floor(at / BLOCK);
      at += this.#blocks[index]!.copy(target, at - offset, at - index * BLOCK, offset + length - index * BLOCK);
    }
    return target;
  }

  /** Where the bytes of a whole disk differ from this; null where they don't. */
  difference(bytes: Buffer): string | null {
    if (bytes.length !== this.size) return `${bytes.length} bytes instead of ${this.size}`;
    const differing = this.#blocks.flatMap((block, i) =>
      bytes.subarray(i * BLOCK, i * BLOCK + block.length).equals(block) ? [] : [i],
    );
    if (differing.length === 0) return null;
    return `${differing.length} of ${this.#blocks.length} blocks differ: ${differing.slice(0, 12).join(' ')}`;
  }

  /**
   * What a disk holds that died while it was written: each sector is as one of the states had it that the disk went through. Gives
   * null when a sector is neither.
   */
  static ofTorn(bytes: Buffer, states: readonly Image[]): Image | null {
    const [first] = states;
    let image = first!;
    for (let at = 0; at < image.size; at += BLOCK) {
      const index = at / BLOCK;
      const block = bytes.subarray(at, Math.min(at + BLOCK, image.size));
      if (block.equals(first!.#blocks[index]!)) continue;
      const candidates = new Set(states.map((state) => state.#blocks[index]!));
      for (let from = 0; from < block.length; from += SECTOR) {
        const sector = block.subarray(from, from + SECTOR);
        if (![...candidates].some((one) => one.subarray(from, from + SECTOR).equals(sector))) return null;
      }
      image = image.with(at, block);
    }
    return image;
  }
}
