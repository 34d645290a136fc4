/**
 * Merges two neighbouring undo logs into one, so that the recovery point between them is given up and the room of what
 * both hold goes. Where both cover a byte the older one wins: it holds what the older point had there. Frames are copied
 * as they are stored; only those that are covered in part are cut, and so packed anew.
 *
 * The merged log gets the newer one's name: one rename puts it in that one's place, and the older one, which lies inside
 * of it then, goes next. A crash in between leaves both; the chain drops the inner one when it is opened.
 */
import { randomBytes } from 'node:crypto';
import { unlink } from 'node:fs/promises';
import { FrameKind } from '../deltalog/frame.ts';
import { WRITER, type LogFooter } from '../deltalog/header.ts';
import { LogReader, type FrameEntry } from '../deltalog/reader.ts';
import { LogWriter } from '../deltalog/writer.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { ExtentIndex, type IndexedRun } from './extent-index.ts';
import { FrameCache } from './frame-cache.ts';
import type { UndoLog } from './undo-chain.ts';
import { COMPRESSION } from './undo.ts';
import { runsOf, type UndoSource } from './undo-source.ts';

/** Unpacked frames that are kept while their pieces are written, bytes. */
const CACHED_BYTES = 512 * 1024;

type Cache = FrameCache<FrameEntry, Buffer>;

export interface MergeRequest {
  readonly older: UndoLog;
  readonly newer: UndoLog;
  /** Where the merged log is written; it becomes final by being renamed to the newer one's path. */
  readonly temporary: string;
  /** Waited for before each frame, with the bytes written so far: whoever merges says how fast. May throw to end it. */
  readonly pace: (written: number) => Promise<void>;
}

/** Writes the merged log; whole and durable when it resolves, but not in the chain yet. Nothing of it stays after a failure. */
export async function writeMerged(request: MergeRequest): Promise<UndoLog> {
  const { older, newer, temporary } = request;
  const readers: LogReader[] = [];
  try {
    for (const { path } of [older, newer]) readers.push(await LogReader.open(path));
    const { header } = readers[0]!;
    const merged = { ...header, writer: WRITER, logId: randomBytes(16).toString('hex'), follows: newer.follows };
    const writer = await LogWriter.create(temporary, { ...merged, created: Date.now() }, { compression: COMPRESSION });
    let footer: LogFooter;
    try {
      await copyFrames(readers, writer, request.pace);
      crashPoint('replica:merge-written');
      footer = await writer.finish({ makes: older.makes, durable: true });
    } catch (error) {
      // The first error is the one that matters; what was written is of no use.
      await Promise.allSettled([writer.abandon(), unlink(temporary)]);
      throw error;
    }
    crashPoint('replica:merge-durable');
    return {
      path: newer.path,
      follows: newer.follows,
      makes: older.makes,
      point: older.point,
      disks: older.disks,
      empty: footer.frames === 0,
      bytes: writer.written,
    };
  } finally {
    for (const reader of readers) await reader.close();
  }
}

async function copyFrames(readers: readonly LogReader[], writer: LogWriter, pace: MergeRequest['pace']): Promise<void> {
  const frames = await Promise.all(readers.map((reader) => reader.index()));
  for (const disk of writer.header.disks.keys()) {
    const index = new ExtentIndex<UndoSource>();
    for (const [i, reader] of readers.entries()) index.add(runsOf(reader, frames[i]!, disk));
    const cache = new FrameCache<FrameEntry, Buffer>(CACHED_BYTES, ({ length }) => length);
    for (const run of index.runs) {
      await pace(writer.written);
      await copyRun(run, disk, writer, cache);
    }
  }
}

async function copyRun(run: IndexedRun<UndoSource>, disk: number, writer: LogWriter, cache: Cache): Promise<void> {
  const { offset, length, source } = run;
  const { reader, frame } = source;
  if (frame.kind === FrameKind.zero) {
    await writer.zero(disk, offset, length);
  } else if (length === frame.length) {
    await writer.copy(await reader.stored(frame));
  } else {
    const data = await cache.get(frame, () => reader.data(frame));
    const from = offset - frame.offset;
    await writer.data(disk, offset, data.subarray(from, from + length));
  }
}
