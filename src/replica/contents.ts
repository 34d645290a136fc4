/** What a log makes of the parts of an item: their bytes, unpacked as they are asked for. */
import type { FrameEntry, LogReader, StoredFrame } from '../deltalog/reader.ts';
import { unpack } from '../deltalog/reader.ts';
import { isZero, type Item, type Part } from './log-share.ts';

export class ItemContents {
  readonly #stored: Map<FrameEntry, StoredFrame>;
  readonly #unpacked = new Map<FrameEntry, Buffer>();
  readonly #keep: boolean;

  private constructor(stored: Map<FrameEntry, StoredFrame>, keep: boolean) {
    this.#stored = stored;
    this.#keep = keep;
  }

  /** @param options.keep unpacked bytes are kept, for a second look; else only the last frame's. */
  static async read(
    reader: LogReader,
    item: Item,
    options: { keep: boolean; verified: boolean },
  ): Promise<ItemContents> {
    const data = item.parts.filter((part) => !isZero(part)).map(({ frame }) => frame);
    const frames = [...new Set(data)].toSorted((a, b) => a.at - b.at);
    const stored = await reader.batch(frames, options.verified);
    return new ItemContents(new Map(frames.map((frame, i) => [frame, stored[i]!])), options.keep);
  }

  /** The bytes of a part that holds data. Throws `bad-log` when they don't unpack. */
  of({ frame, offset, length }: Part): Buffer {
    const from = offset - frame.offset;
    return this.#frame(frame).subarray(from, from + length);
  }

  #frame(frame: FrameEntry): Buffer {
    const there = this.#unpacked.get(frame);
    if (there !== undefined) return there;
    const { head, payload } = this.#stored.get(frame)!;
    const data = unpack(head, payload);
    if (this.#keep) this.#stored.delete(frame);
    else this.#unpacked.clear();
    this.#unpacked.set(frame, data);
    return data;
  }
}
