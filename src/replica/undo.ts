/**
 * Makes the undo log of a received log from the untouched disks: what they hold now wherever the log will write. It is
 * whole and durable, for all disks, before anybody writes to any of them.
 */
import { randomBytes } from 'node:crypto';
import { rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { FrameEntry } from '../deltalog/reader.ts';
import { WRITER, type LogFooter, type LogHeader } from '../deltalog/header.ts';
import { LogWriter } from '../deltalog/writer.ts';
import { syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { classify, pieces, union, type ChangedExtent, type Extent } from '../model/extent.ts';
import type { Position, RecoveryPoint, ReplicatedDisk } from '../model/relationship.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import { readPieces } from '../qemu/disk.ts';
import { ALLOCATION, BASE_ALLOCATION } from '../qemu/nbd/wire.ts';
import type { UndoLog } from './undo-chain.ts';

/** Bytes of disk in a frame of an undo log: what a 4 KiB read of a view has to unpack. */
const UNDO_FRAME = 64 * 1024;
/** Extents nearer to each other than this are asked for their holes in one request. */
const NEAR = 16 * 1024 * 1024;
/** zstd level of undo logs. */
export const COMPRESSION = 1;

export interface UndoRequest {
  readonly path: string;
  readonly relationship: string;
  readonly disks: readonly ReplicatedDisk[];
  /** The state from which it leads back. */
  readonly follows: Position;
  /** The state that the disks hold now. */
  readonly makes: Position;
  readonly point: RecoveryPoint | null;
}

/** Records what `clients` hold at the places that `frames` will overwrite. No frames: both states hold the same. */
export async function recordUndo(
  request: UndoRequest,
  frames: readonly FrameEntry[],
  clients: readonly NbdClient[],
): Promise<UndoLog> {
  const { path, relationship, follows, makes, point } = request;
  const header: LogHeader = {
    writer: WRITER,
    relationship,
    logId: randomBytes(16).toString('hex'),
    direction: 'undo',
    disks: request.disks.map(({ target, size }) => ({ target, size })),
    follows,
    sequence: makes.sequence,
    epoch: makes.epoch,
    point,
    created: Date.now(),
  };
  const temporary = `${path}.tmp`;
  const writer = await LogWriter.create(temporary, header, { compression: COMPRESSION });
  let footer: LogFooter;
  try {
    for (const [disk, client] of clients.entries()) {
      await recordDisk(writer, disk, client, union(frames.filter((frame) => frame.disk === disk)));
    }
    crashPoint('replica:undo-written');
    footer = await writer.finish({ makes, durable: true });
  } catch (error) {
    // The first error is the one that matters; what was written is of no use, and the room may be needed.
    await Promise.allSettled([writer.abandon(), unlink(temporary)]);
    throw error;
  }
  crashPoint('replica:undo-durable');
  await rename(temporary, path);
  await syncDirectory(dirname(path));
  crashPoint('replica:undo-final');
  return { path, follows, makes, point, empty: footer.frames === 0, bytes: writer.written };
}

async function recordDisk(writer: LogWriter, disk: number, client: NbdClient, extents: Extent[]): Promise<void> {
  for await (const piece of readPieces(client, await withHoles(client, extents))) {
    if (piece.zero) {
      await writer.zero(disk, piece.offset, piece.length);
      continue;
    }
    for (const { offset, length } of pieces([piece], UNDO_FRAME)) {
      const from = offset - piece.offset;
      await writer.data(disk, offset, piece.data.subarray(from, from + length));
    }
  }
}

async function withHoles(client: NbdClient, extents: readonly Extent[]): Promise<ChangedExtent[]> {
  const holes: Extent[] = [];
  for (const { offset, length } of windows(extents)) {
    const map = await client.extents(BASE_ALLOCATION, offset, length);
    holes.push(...map.filter(({ flags }) => (flags & ALLOCATION.zero) !== 0));
  }
  return classify(extents, union(holes));
}

/** Ranges that cover the extents, near ones together. */
function windows(extents: readonly Extent[]): Extent[] {
  const out: { offset: number; length: number }[] = [];
  for (const { offset, length } of extents) {
    const last = out.at(-1);
    if (last !== undefined && offset - (last.offset + last.length) < NEAR) last.length = offset + length - last.offset;
    else out.push({ offset, length });
  }
  return out;
}
