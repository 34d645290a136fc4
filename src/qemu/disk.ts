import { type ChangedExtent, classify, pieces } from '../model/extent.ts';
import type { NbdClient } from './nbd/client.ts';
import type { StatusExtent } from './nbd/extents.ts';
import { ALLOCATION, BASE_ALLOCATION } from './nbd/wire.ts';

/** Bit of an extent of a `qemu:dirty-bitmap:` context. */
const DIRTY = 1;

/** A run of a disk that has been read. Zero runs carry no data, whatever their length. */
export type Piece =
  | { readonly offset: number; readonly length: number; readonly zero: true }
  | { readonly offset: number; readonly length: number; readonly zero: false; readonly data: Buffer };

/**
 * What has changed in [from, to) of a disk: the dirty extents of `dirtyContext` (null: everything), cut where the disk
 * reads as zeros. A zero run comes as one, so that a trimmed disk costs next to nothing. The client must have been
 * connected with the dirty context and with `base:allocation`; without the latter nothing counts as zero.
 */
export async function changedExtents(
  client: NbdClient,
  dirtyContext: string | null,
  from: number,
  to: number,
): Promise<ChangedExtent[]> {
  if (to <= from) return [];
  const allocation = client.info.contexts.has(BASE_ALLOCATION) ? [BASE_ALLOCATION] : [];
  const dirty = dirtyContext === null ? [] : [dirtyContext];
  const maps = await client.extentMaps([...dirty, ...allocation], from, to - from);
  const changed = dirtyContext === null ? [{ offset: from, length: to - from }] : withFlag(maps.shift()!, DIRTY);
  return classify(changed, withFlag(maps.shift() ?? [], ALLOCATION.zero));
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

function withFlag(extents: readonly StatusExtent[], flag: number): StatusExtent[] {
  return extents.filter(({ flags }) => (flags & flag) !== 0);
}
