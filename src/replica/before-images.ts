/**
 * A lane's part of an undo log: what the disks hold where a log is about to write. What the log doesn't change although
 * it writes it, is neither recorded nor written.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { Place, Segment, type WrittenSegment } from '../deltalog/segment.ts';
import { clip, pieces, union, type Extent } from '../model/extent.ts';
import { readPieces, withHoles, type Piece, type ReadOptions } from '../qemu/disk.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import { differences } from './difference.ts';
import { isZero, type Item, type Part, type Share } from './log-share.ts';

/** Bytes of disk in a frame of an undo log: what a 4 KiB read of a view has to unpack. */
const UNDO_FRAME = 64 * 1024;
/** Packed bytes that are written at once. */
const SEGMENT_BYTES = 1024 * 1024;

/** The bytes that a part becomes; undefined where they aren't at hand. */
export type Contents = (part: Part) => Buffer | undefined;

export class BeforeImages {
  /** What is in the file. */
  readonly segments: WrittenSegment[] = [];
  readonly #file: FileHandle;
  readonly #place: Place;
  readonly #level: number;
  readonly #sizes: readonly number[];
  readonly #segment = new Segment();
  readonly #reading: ReadOptions = { memory: [] };

  private constructor(file: FileHandle, place: Place, level: number, sizes: readonly number[]) {
    this.#file = file;
    this.#place = place;
    this.#level = level;
    this.#sizes = sizes;
  }

  /** @param undo `level`: zstd's, for what is recorded; 0: as it is. `sizes`: of the disks, bytes: beyond that nothing was there before. */
  static async open({ path, place, level, sizes }: NonNullable<Share['undo']>): Promise<BeforeImages> {
    return new BeforeImages(await open(path, 'r+'), new Place(place), level, sizes);
  }

  /**
   * Records what the disk holds at the parts of an item. Gives what is to be written: where it has to differ, as far as that
   * is known by `contents`, else all.
   */
  async record(item: Item, client: NbdClient, contents: Contents): Promise<Extent[]> {
    const toWrite: Extent[] = [];
    const { disk, parts, isTail = false } = item;
    let next = 0;
    for await (const piece of readPieces(client, await withHoles(client, union(parts)), this.#reading)) {
      let held = false;
      for (; next < parts.length; next++) {
        const part = parts[next]!;
        const range = clip(part, piece.offset, piece.offset + piece.length);
        if (range !== undefined) {
          for (const extent of isTail ? [range] : changes(piece, range, contents)) {
            toWrite.push(extent);
            const before = clip(extent, 0, this.#sizes[disk] ?? 0);
            if (before !== undefined && this.#add(disk, piece, before)) held = true;
          }
        }
        if (part.offset + part.length > piece.offset + piece.length) break; // it goes on in the next piece
      }
      // The piece's memory is read into again: what is stored as it is has to be gone from there.
      if (held || this.#segment.bytes >= SEGMENT_BYTES) await this.flush();
    }
    return toWrite;
  }

  async flush(): Promise<void> {
    if (this.#segment.bytes > 0) this.segments.push(await this.#segment.write(this.#file, this.#place));
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Whether the piece's own memory is used until the next `flush`. */
  #add(disk: number, piece: Piece, extent: Extent): boolean {
    if (piece.zero) {
      this.#segment.zero(disk, extent.offset, extent.length);
      return false;
    }
    let held = false;
    for (const { offset, length } of pieces([extent], UNDO_FRAME)) {
      const from = offset - piece.offset;
      if (this.#segment.data(disk, offset, piece.data.subarray(from, from + length), this.#level)) held = true;
    }
    return held;
  }
}

/** Where a part of the disk, read as `piece`, isn't what it becomes. */
function changes(piece: Piece, part: Part, contents: Contents): Extent[] {
  const whole: Extent = { offset: part.offset, length: part.length };
  if (isZero(part)) return piece.zero ? [] : [whole];
  const after = piece.zero ? undefined : contents(part);
  if (piece.zero || after === undefined) return [whole];
  const from = part.offset - piece.offset;
  return differences(piece.data.subarray(from, from + part.length), after, part.offset);
}
