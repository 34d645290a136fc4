/** The blocks that references of a captured log name: their bytes, and where the thinner log has them. */
import { REFERENCE_BLOCK, type Place } from '../deltalog/frame.ts';
import type { FrameEntry, LogReader } from '../deltalog/reader.ts';
import { Failure } from '../model/failure.ts';
import type { Extent } from '../model/extent.ts';

/** Above every block's number: a disk has 2^52 bytes at most. */
const BLOCKS_OF_DISK = 2 ** 37;

export class Referred {
  readonly #reader: LogReader;
  readonly #frames: readonly FrameEntry[];
  /** By number of a block that is referred to; null: the thinner log has it nowhere as a whole. */
  readonly #places = new Map<number, Place | null>();
  /** The frame that was unpacked last: neighbours tend to be of one. */
  #last: { readonly frame: FrameEntry; readonly data: Buffer } | undefined;

  /** @param frames of the captured log, sorted by disk and offset, but its references. */
  constructor(reader: LogReader, frames: readonly FrameEntry[], references: readonly FrameEntry[]) {
    this.#reader = reader;
    this.#frames = frames;
    for (const { source, length } of references) {
      for (let at = 0; at < length; at += REFERENCE_BLOCK) {
        this.#places.set(numberOf({ disk: source!.disk, offset: source!.offset + at }), null);
      }
    }
  }

  /** A data frame of the thinner log has this run. */
  stays({ disk, offset, length }: Extent & Pick<Place, 'disk'>): void {
    const first = Math.ceil(offset / REFERENCE_BLOCK) * REFERENCE_BLOCK;
    for (let at = first; at + REFERENCE_BLOCK <= offset + length; at += REFERENCE_BLOCK) {
      const place = { disk, offset: at };
      if (this.#places.has(numberOf(place))) this.#places.set(numberOf(place), place);
    }
  }

  /** A data frame of the thinner log has the bytes of `source` at another place. */
  isAt(source: Place, place: Place): void {
    this.#places.set(numberOf(source), place);
  }

  /** Where a data frame of the thinner log has the bytes of `source`. */
  placeOf(source: Place): Place | undefined {
    return this.#places.get(numberOf(source)) ?? undefined;
  }

  /** The block's bytes. */
  async data(source: Place): Promise<Buffer> {
    const frame = this.#frameWith(source);
    if (this.#last?.frame !== frame) this.#last = { frame, data: await this.#reader.data(frame) };
    const from = source.offset - frame.offset;
    return this.#last.data.subarray(from, from + REFERENCE_BLOCK);
  }

  #frameWith({ disk, offset }: Place): FrameEntry {
    let low = 0;
    let high = this.#frames.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const frame = this.#frames[middle]!;
      if (frame.disk < disk || (frame.disk === disk && frame.offset <= offset)) low = middle + 1;
      else high = middle;
    }
    const frame = this.#frames[low - 1];
    if (frame?.disk === disk && frame.offset + frame.length >= offset + REFERENCE_BLOCK) return frame;
    throw new Failure('internal', `the captured log refers to disk ${disk}+${offset}, which it does not hold`);
  }
}

function numberOf({ disk, offset }: Place): number {
  return disk * BLOCKS_OF_DISK + offset / REFERENCE_BLOCK;
}
