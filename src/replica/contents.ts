/** What a log makes of the parts of an item: their bytes, unpacked as they are asked for. */
import { Arena } from '../lib/arena.ts';
import type { FrameEntry, LogReader, StoredFrame } from '../deltalog/reader.ts';
import { blocksIn } from '../deltalog/pieces.ts';
import { unpack } from '../deltalog/reader.ts';
import { Codec } from '../deltalog/frame.ts';
import { isZero, type Item, type Part } from './log-share.ts';

/** The memory of one item after the other. */
export class ItemMemory {
  readonly stored = new Arena();
  readonly unpacked = new Arena();
}

export class ItemContents {
  readonly #stored: Map<FrameEntry, StoredFrame>;
  readonly #unpacked = new Map<FrameEntry, Buffer>();
  readonly #memory: ItemMemory;

  private constructor(stored: Map<FrameEntry, StoredFrame>, memory: ItemMemory) {
    this.#stored = stored;
    this.#memory = memory;
  }

  /**
   * @param verified its frames have been verified by this process.
   * @param memory where all of it lies: nobody may need what was read into it before.
   */
  static async read(reader: LogReader, item: Item, verified: boolean, memory: ItemMemory): Promise<ItemContents> {
    const data = item.parts.filter((part) => !isZero(part)).map(({ frame }) => frame);
    const frames = [...new Set(data)].toSorted((a, b) => a.at - b.at);
    memory.stored.clear();
    memory.unpacked.clear();
    const stored = await reader.batch(frames, verified, memory.stored);
    return new ItemContents(new Map(frames.map((frame, i) => [frame, stored[i]!])), memory);
  }

  /** The bytes of a part that holds data. Throws `bad-log` when they don't unpack. */
  of({ frame, offset, length }: Part): Buffer {
    const from = offset - frame.offset;
    return this.#frame(frame).subarray(from, from + length);
  }

  /** Digests of whole blocks within such a part, where verifying it has made them. */
  digestsOf({ frame }: Part, from: number, count: number): Buffer | undefined {
    const { head, pieces } = this.#stored.get(frame)!;
    return head.codec === Codec.none && pieces !== undefined ? blocksIn(pieces, frame.offset, from, count) : undefined;
  }

  #frame(frame: FrameEntry): Buffer {
    const there = this.#unpacked.get(frame);
    if (there !== undefined) return there;
    const { head, payload } = this.#stored.get(frame)!;
    const data = unpack(head, payload, this.#memory.unpacked);
    this.#unpacked.set(frame, data);
    return data;
  }
}
