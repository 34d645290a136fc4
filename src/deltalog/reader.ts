/**
 * Reads a finished delta log from its file: its index at once, its frames by place.
 */
import { open, type FileHandle } from 'node:fs/promises';
import type { Arena } from '../lib/arena.ts';
import { Failure } from '../model/failure.ts';
import {
  checkFrameSense,
  Codec,
  decodeFrameHead,
  FRAME_HEAD_SIZE,
  FrameKind,
  verifyFrame,
  type FrameHead,
  type UnverifiedHead,
} from './frame.ts';
import {
  decodeHeader,
  footerSchema,
  headerSize,
  parseJson,
  PRELUDE_SIZE,
  type LogFooter,
  type LogHeader,
} from './header.ts';
import { unpackFrame } from './zstd.ts';
import { LogParser } from './parser.ts';
import { decodeEntry, INDEX_ENTRY_SIZE, TRAILER_MAGIC, TRAILER_SIZE, type FrameEntry } from './ending.ts';

export type { FrameEntry } from './ending.ts';

/** A data frame as it is stored. */
export interface StoredFrame {
  readonly head: FrameHead;
  readonly payload: Buffer;
  /** Digests of its payload's pieces, where it has been verified just now. */
  readonly pieces?: Buffer;
}

/** Entries of an index that are read at once, to be looked at one by one. */
const ENTRIES = 16 * 1024;
/** Frames nearer to each other than this are read in one go, bytes. */
const NEAR = 4096;

export class LogReader {
  readonly path: string;
  readonly header: LogHeader;
  readonly footer: LogFooter;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle, header: LogHeader, footer: LogFooter) {
    this.path = path;
    this.#file = file;
    this.header = header;
    this.footer = footer;
  }

  /** Opens a finished log. Throws `bad-log` when it isn't whole; ENOENT as it comes. */
  static async open(path: string): Promise<LogReader> {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const prelude = await readExactly(file, 0, PRELUDE_SIZE, path);
      const { header } = decodeHeader(await readExactly(file, 0, headerSize(prelude), path));
      if (size < PRELUDE_SIZE + TRAILER_SIZE) throw new Failure('bad-log', `${path}: too short`);
      const trailer = await readExactly(file, size - TRAILER_SIZE, TRAILER_SIZE, path);
      if (!trailer.subarray(8).equals(TRAILER_MAGIC)) throw new Failure('bad-log', `${path}: not finished`);
      const endAt = Number(trailer.readBigUInt64LE(0));
      if (endAt > size) throw new Failure('bad-log', `${path}: its trailer points outside`);
      const { head, payload } = await readFrame(file, endAt, path);
      if (head.kind !== FrameKind.end) throw new Failure('bad-log', `${path}: its trailer names no end frame`);
      return new LogReader(path, file, header, parseJson(payload, footerSchema, 'footer'));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** All data and zero frames and references, in the order in which they were written. */
  async index(): Promise<FrameEntry[]> {
    const { head, payload } = await readFrame(this.#file, this.footer.indexAt, this.path);
    if (head.kind !== FrameKind.index) throw new Failure('bad-log', `${this.path}: its index is missing`);
    const entries: FrameEntry[] = [];
    for (let at = 0; at + INDEX_ENTRY_SIZE <= payload.length; at += INDEX_ENTRY_SIZE) {
      const entry = decodeEntry(payload.subarray(at, at + INDEX_ENTRY_SIZE));
      const { direction } = this.header;
      if (entry === undefined || (entry.kind === FrameKind.reference && direction === 'undo')) {
        throw new Failure('bad-log', `${this.path}: its index names a frame of kind ${payload[at]}`);
      }
      entries.push(entry);
    }
    if (entries.length !== this.footer.frames) throw new Failure('bad-log', `${this.path}: its index is not whole`);
    return entries;
  }

  /** The disk bytes of a data frame, verified and unpacked. */
  async data(entry: FrameEntry): Promise<Buffer> {
    const { head, payload } = await this.stored(entry);
    return unpack(head, payload);
  }

  /** A data frame as it is stored, verified: for whoever copies it. */
  async stored(entry: FrameEntry): Promise<StoredFrame> {
    const frame = await readFrame(this.#file, entry.at, this.path);
    this.#requireSame(frame.head, entry);
    return frame;
  }

  /**
   * Data frames as they are stored, read in as few goes as their places allow.
   * @param verified they have been verified by this process since they were written: it isn't done again.
   * @param arena gives the memory in which they lie.
   */
  async batch(entries: readonly FrameEntry[], verified: boolean, arena: Arena): Promise<StoredFrame[]> {
    const out: StoredFrame[] = [];
    for (let i = 0; i < entries.length;) {
      const from = entries[i]!.at;
      let end = endOf(entries[i]!);
      const first = i++;
      while (i < entries.length && entries[i]!.at >= end && entries[i]!.at - end <= NEAR) end = endOf(entries[i++]!);
      const bytes = await readInto(this.#file, from, arena.take(end - from), this.path);
      for (const entry of entries.slice(first, i)) {
        out.push(this.#frameIn(bytes.subarray(entry.at - from, endOf(entry) - from), entry, verified));
      }
    }
    return out;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #frameIn(bytes: Buffer, entry: FrameEntry, verified: boolean): StoredFrame {
    const head = decodeFrameHead(bytes);
    const payload = bytes.subarray(FRAME_HEAD_SIZE);
    const frame = verified ? { head: sensible(head), payload } : { ...verifyFrame(bytes, head, payload), payload };
    this.#requireSame(frame.head, entry);
    return frame;
  }

  #requireSame({ kind, disk, offset, length }: FrameHead, entry: FrameEntry): void {
    if (kind !== FrameKind.data || disk !== entry.disk || offset !== entry.offset || length !== entry.length) {
      throw new Failure('bad-log', `${this.path}: its index does not fit its frame at ${entry.at}`);
    }
  }
}

function endOf({ at, stored }: FrameEntry): number {
  return at + FRAME_HEAD_SIZE + stored;
}

/**
 * The disk bytes of a data frame's payload. Throws `bad-log` when they don't come out as long as the head says.
 * @param arena gives memory for what isn't stored as it is.
 */
export function unpack(head: FrameHead, payload: Buffer, arena?: Arena): Buffer {
  if (head.codec === Codec.none) return payload;
  const data = unpackFrame(payload, head.length, arena);
  if (data === undefined) {
    throw new Failure('bad-log', `frame at disk ${head.disk}+${head.offset} does not unpack to ${head.length} bytes`);
  }
  return data;
}

function sensible(head: UnverifiedHead): FrameHead {
  checkFrameSense(head);
  return head;
}

async function readFrame(file: FileHandle, at: number, path: string): Promise<StoredFrame> {
  const headBytes = await readExactly(file, at, FRAME_HEAD_SIZE, path);
  const head = decodeFrameHead(headBytes);
  const payload = await readExactly(file, at + FRAME_HEAD_SIZE, head.stored, path);
  return { ...verifyFrame(headBytes, head, payload), payload };
}

async function readExactly(file: FileHandle, at: number, length: number, path: string): Promise<Buffer> {
  return await readInto(file, at, Buffer.allocUnsafe(length), path);
}

async function readInto(file: FileHandle, at: number, buffer: Buffer, path: string): Promise<Buffer> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, at + done);
    if (bytesRead === 0) throw new Failure('bad-log', `${path}: ends at ${at + done}, where more was expected`);
    done += bytesRead;
  }
  return buffer;
}

/**
 * Reads a file that may be cut off anywhere (a crash while it was received) and gives the parser that has accepted its
 * whole, verified part: `parser.accepted` bytes of it are good, the rest is not.
 */
export async function resumeParser(path: string): Promise<LogParser> {
  let parser = new LogParser();
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(1024 * 1024);
    let at = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) break;
      at += bytesRead;
      try {
        parser.push(buffer.subarray(0, bytesRead));
      } catch (error) {
        // After a power loss the tail may hold anything, what looks like a later version's too: what was accepted
        // before it is good.
        if (error instanceof Failure) break;
        throw error;
      }
    }
    if (parser.accepted === at) return parser;
    // The parser is in the middle of a torn frame: start again and give it the good part only.
    const good = parser.accepted;
    parser = new LogParser();
    for (at = 0; at < good;) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, good - at), at);
      if (bytesRead === 0) break;
      at += bytesRead;
      parser.push(buffer.subarray(0, bytesRead));
    }
    return parser;
  } finally {
    await file.close();
  }
}

/**
 * Throws `bad-log` unless all references of a whole log lead where they may.
 * @param path its file. @param parser that has accepted all of it.
 */
export async function checkReferences(path: string, { references, footer }: LogParser): Promise<void> {
  if (references.count === 0 || footer === undefined) return;
  const check = references.check();
  const file = await open(path, 'r');
  try {
    const entries = footer.indexAt + FRAME_HEAD_SIZE;
    for (let done = 0; done < footer.frames; done += ENTRIES) {
      const size = Math.min(ENTRIES, footer.frames - done) * INDEX_ENTRY_SIZE;
      const bytes = await readExactly(file, entries + done * INDEX_ENTRY_SIZE, size, path);
      for (let at = 0; at < size; at += INDEX_ENTRY_SIZE) {
        check.frame(decodeEntry(bytes.subarray(at, at + INDEX_ENTRY_SIZE))!); // the parser has accepted it
      }
    }
  } finally {
    await file.close();
  }
  check.end();
}
