/**
 * How the work of applying one log is divided: into items of neighbouring frames, which lanes take from a counter that
 * they share. No byte of a disk belongs to two items, so that they may be worked on in any order; but for those of references, which
 * come last: what they copy must be in the disks.
 */
import type { FrameEntry } from '../deltalog/reader.ts';
import { FrameKind } from '../deltalog/frame.ts';
import type { WrittenSegment } from '../deltalog/segment.ts';
import type { Extent } from '../model/extent.ts';
import type { NbdAddress } from '../qemu/nbd/client.ts';
import { ExtentIndex } from './extent-index.ts';

/** Bytes of disk in an item, about: enough to keep a lane busy, little enough to be held in memory. */
export const ITEM_BYTES = 8 * 1024 * 1024;

/** What a lane is given to apply its share of a log. */
export interface Share {
  /** Path of the received log. */
  readonly log: string;
  /** The replica's disks as the storage daemon exports them, by index. */
  readonly disks: readonly NbdAddress[];
  /**
   * The undo log that is being made: its file, the place where the next segment goes, zstd's level, 0: as it is, and the sizes of the disks
   * to which it leads back. Null where none is made.
   */
  readonly undo: {
    readonly path: string;
    readonly place: SharedArrayBuffer;
    readonly level: number;
    readonly sizes: readonly number[];
  } | null;
  /** What the disks lose by this log, besides what its frames say. */
  readonly tails: readonly Item[];
  /** Items taken so far, 4 bytes. */
  readonly taken: SharedArrayBuffer;
}

/** What a lane asks when it has come to a place where all wait for each other. */
export type Arrival =
  /** Its part of the undo log is in the file; answered when the whole is durable and published. */
  | { readonly at: 'undone'; readonly segments: readonly WrittenSegment[] }
  /** What the log's data frames have is written, as far as it is this lane's; answered when that is true of all. Only of a log with references. */
  | { readonly at: 'sourced' }
  /** What it had to write is written; answered when that is true of all. */
  | { readonly at: 'written' };

/** A `DigestRun` on its way between threads, which make plain bytes of a Buffer. */
export interface SentRun {
  readonly from: number;
  readonly digests: Uint8Array;
}

/** Digests of blocks that a lane has written, by disk. */
export type ShareDigests = readonly (readonly SentRun[])[];

/** Bytes of a disk, and the frame that says what they become. */
export interface Part extends Extent {
  readonly frame: FrameEntry;
}

export interface Item {
  readonly disk: number;
  /** In order, disjoint. */
  readonly parts: readonly Part[];
  /** The end of a disk that is cut off: all of it is kept in the undo log, also where it reads as zeros already. */
  readonly isTail?: boolean;
}

export function isZero({ frame }: Part): boolean {
  return frame.kind === FrameKind.zero;
}

/** Of an item, whose parts are all of references or none is: whether they are. */
export function isCopied({ parts }: Item): boolean {
  return parts[0]?.frame.kind === FrameKind.reference;
}

/** The items of a log by its frames, those of references last. Where frames cover the same byte, only the part of the later one is in it. */
export function itemsOf(frames: readonly FrameEntry[]): Item[] {
  const partsOf = owners(frames);
  const [references, others] = [true, false].map((is) =>
    frames.filter(({ kind }) => (kind === FrameKind.reference) === is),
  );
  return [...gathered(others!, partsOf), ...gathered(references!, partsOf)];
}

function gathered(frames: readonly FrameEntry[], partsOf: (frame: FrameEntry) => Part[]): Item[] {
  const items: Item[] = [];
  let parts: Part[] = [];
  let bytes = 0;
  for (const [i, frame] of frames.entries()) {
    parts.push(...partsOf(frame));
    bytes += frame.length;
    const next = frames[i + 1];
    if (next?.disk === frame.disk && bytes + next.length <= ITEM_BYTES) continue;
    items.push({ disk: frame.disk, parts: parts.toSorted((a, b) => a.offset - b.offset) });
    parts = [];
    bytes = 0;
  }
  return items;
}

/** Tells of a frame which of its bytes no later frame covers. */
function owners(frames: readonly FrameEntry[]): (frame: FrameEntry) => Part[] {
  const byDisk = Map.groupBy(frames, ({ disk }) => disk);
  if ([...byDisk.values()].every(isDisjoint)) {
    return (frame) => [{ offset: frame.offset, length: frame.length, frame }];
  }
  const indexes = new Map<number, ExtentIndex<FrameEntry>>();
  for (const [disk, own] of byDisk) {
    const index = new ExtentIndex<FrameEntry>();
    index.add(own.toReversed().map((frame) => ({ offset: frame.offset, length: frame.length, source: frame })));
    indexes.set(disk, index);
  }
  return (frame) =>
    indexes
      .get(frame.disk)!
      .lookup(frame.offset, frame.length)
      .flatMap(({ offset, length, source }) => (source === frame ? [{ offset, length, frame }] : []));
}

function isDisjoint(frames: readonly FrameEntry[]): boolean {
  const sorted = frames.toSorted((a, b) => a.offset - b.offset);
  return sorted.every((frame, i) => i === 0 || sorted[i - 1]!.offset + sorted[i - 1]!.length <= frame.offset);
}
