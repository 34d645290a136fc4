import { type ChangedExtent, classify, type Extent, pieces, union } from '../model/extent.ts';
import type { NbdClient } from './nbd/client.ts';
import type { StatusExtent } from './nbd/extents.ts';
import { ALLOCATION, BASE_ALLOCATION } from './nbd/wire.ts';

/** Bit of an extent of a `qemu:dirty-bitmap:` context. */
const DIRTY = 1;
/** Extents nearer to each other than this are asked for their holes in one request. */
const NEAR = 16 * 1024 * 1024;
const MOST_WINDOWS = 1024;

/** A run of a disk that has been read. Zero runs carry no data, whatever their length. */
export type Piece =
  | { readonly offset: number; readonly length: number; readonly zero: true }
  | { readonly offset: number; readonly length: number; readonly zero: false; readonly data: Buffer };

/** The extents of `context`, a dirty bitmap that the client was connected with, within [from, to). */
export async function dirtyExtents(client: NbdClient, context: string, from: number, to: number): Promise<Extent[]> {
  if (to <= from) return [];
  const dirty = withFlag(await client.extents(context, from, to - from), DIRTY);
  return dirty.map(({ offset, length }) => ({ offset, length }));
}

/**
 * The extents, sorted and disjoint, cut where the disk reads as zeros. A zero run comes as one, so that a trimmed disk costs next to
 * nothing. QEMU walks through its tables for that, so it is asked only about where the extents are. A client without `base:allocation`
 * takes nothing for zero.
 */
export async function withHoles(client: NbdClient, extents: readonly Extent[]): Promise<ChangedExtent[]> {
  const holes: Extent[] = [];
  if (client.info.contexts.has(BASE_ALLOCATION)) {
    for (const { offset, length } of windows(extents)) {
      holes.push(...withFlag(await client.extents(BASE_ALLOCATION, offset, length), ALLOCATION.zero));
    }
  }
  return classify(extents, union(holes));
}

/** All of [from, to), cut where the disk reads as zeros. */
export async function allExtents(client: NbdClient, from: number, to: number): Promise<ChangedExtent[]> {
  return to <= from ? [] : await withHoles(client, [{ offset: from, length: to - from }]);
}

export interface ReadOptions {
  /** Pieces end at multiples of it, bytes; default 1 MiB. */
  readonly pieceSize?: number;
  /** At most so many piece sizes of bytes are under way; default 4, the fastest on small machines. */
  readonly inFlight?: number;
  /**
   * Memory of earlier reads with the same piece size, empty at first. With it a piece's data is the taker's only until it asks for the next
   * piece, then its memory is read into again: saves about half of the CPU time. Left out: the taker may keep it.
   */
  readonly memory?: Buffer[];
}

/** Reads extents in order, keeping at most 32 requests under way. Leave the loop or see it to its end. */
export async function* readPieces(
  client: NbdClient,
  extents: Iterable<ChangedExtent>,
  options: ReadOptions = {},
): AsyncGenerator<Piece, void, undefined> {
  const { pieceSize = 1024 * 1024, inFlight = 4, memory } = options;
  const window = pieceSize * inFlight;
  const source = cut(extents, pieceSize);
  const queue: { piece: Promise<Piece>; bytes: number }[] = [];
  let underWay = 0;
  let next = source.next();
  try {
    while (queue.length > 0 || next.done !== true) {
      while (next.done !== true && queue.length < MAX_REQUESTS && (queue.length === 0 || underWay < window)) {
        const bytes = next.value.zero ? 0 : next.value.length;
        const room = bytes === 0 ? NOTHING : memoryFor(bytes, pieceSize, memory);
        const piece = read(client, next.value, room);
        piece.catch(() => undefined); // thrown when its turn comes
        queue.push({ piece, bytes });
        underWay += bytes;
        next = source.next();
      }
      const first = queue.shift()!;
      const piece = await first.piece;
      underWay -= first.bytes;
      yield piece;
      if (!piece.zero) memory?.push(Buffer.from(piece.data.buffer));
    }
  } finally {
    await Promise.allSettled(queue.map(({ piece }) => piece));
  }
}

const MAX_REQUESTS = 32;
const NOTHING = Buffer.alloc(0);

function memoryFor(bytes: number, pieceSize: number, memory: Buffer[] | undefined): Buffer {
  if (memory === undefined) return Buffer.allocUnsafe(bytes);
  return memory.pop() ?? Buffer.allocUnsafeSlow(pieceSize);
}

async function read(client: NbdClient, extent: ChangedExtent, room: Buffer): Promise<Piece> {
  const { offset, length } = extent;
  if (extent.zero) return { offset, length, zero: true };
  const data = room.subarray(0, length);
  await client.readInto(data, offset);
  return { offset, length, zero: false, data };
}

function* cut(extents: Iterable<ChangedExtent>, size: number): Generator<ChangedExtent, void, undefined> {
  for (const extent of extents) {
    if (extent.zero) yield extent;
    else yield* pieces([extent], size);
  }
}

/** Ranges that cover the extents, near ones together; however far they lie apart, not many more than `MOST_WINDOWS`. */
function windows(extents: readonly Extent[]): Extent[] {
  const [first, last] = [extents[0], extents.at(-1)];
  if (first === undefined || last === undefined) return [];
  const near = Math.max(NEAR, (last.offset + last.length - first.offset) / MOST_WINDOWS);
  const out: { offset: number; length: number }[] = [];
  for (const { offset, length } of extents) {
    const before = out.at(-1);
    if (before !== undefined && offset - (before.offset + before.length) < near) {
      before.length = offset + length - before.offset;
    } else {
      out.push({ offset, length });
    }
  }
  return out;
}

function withFlag(extents: readonly StatusExtent[], flag: number): StatusExtent[] {
  return extents.filter(({ flags }) => (flags & flag) !== 0);
}
