/**
 * Writes a delta log into a new file. What has been written can be read at once by whoever follows the file
 * (`written` grows); it is durable only after `finish({ durable: true })`.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { constants as zlib, zstdCompressSync } from 'node:zlib';
import { RunningDigest } from '../lib/digest.ts';
import type { Position } from '../model/relationship.ts';
import { Codec, encodeFrameHead, FrameKind, type FrameHead } from './frame.ts';
import { chainState, encodeHeader, type LogFooter, type LogHeader } from './header.ts';

/** Gathered bytes are handed to the file system in pieces of about this size. */
const FLUSH_SIZE = 1024 * 1024;
/** A frame is stored compressed only if that saves an eighth: else reading it back isn't worth the work. */
const WORTH = 7 / 8;

export const TRAILER_SIZE = 16;
export const TRAILER_MAGIC = Buffer.from('GLDTSDNU', 'latin1');

export interface WriterOptions {
  /** 0: store plain; 1..19: zstd level. */
  readonly compression: number;
}

export class LogWriter {
  readonly path: string;
  readonly header: LogHeader;
  readonly #file: FileHandle;
  readonly #options: WriterOptions;
  readonly #digest = new RunningDigest();
  readonly #index: Buffer[] = [];
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #position = 0;
  #written = 0;
  #frames = 0;
  #dataBytes = 0;
  #zeroBytes = 0;
  #listeners: (() => void)[] = [];

  private constructor(path: string, header: LogHeader, file: FileHandle, options: WriterOptions) {
    this.path = path;
    this.header = header;
    this.#file = file;
    this.#options = options;
  }

  /** Starts a log; an older file of that name is replaced. */
  static async create(path: string, header: LogHeader, options: WriterOptions): Promise<LogWriter> {
    const writer = new LogWriter(path, header, await open(path, 'w', 0o600), options);
    const encoded = encodeHeader(header);
    writer.#digest.update(encoded.digest);
    writer.#push(encoded.bytes);
    return writer;
  }

  /** Bytes that a reader of the file can see. */
  get written(): number {
    return this.#written;
  }

  /** Bytes of disk recorded so far that are not zeros. */
  get changedDataBytes(): number {
    return this.#dataBytes;
  }

  /** Bytes of disk recorded so far. */
  get changedBytes(): number {
    return this.#dataBytes + this.#zeroBytes;
  }

  get frames(): number {
    return this.#frames;
  }

  /** Calls back each time that `written` has grown. */
  onGrow(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Records bytes of a disk. `data` may be reused by the caller once the promise has resolved. */
  async data(disk: number, offset: number, data: Buffer): Promise<void> {
    let payload = data;
    let codec: Codec = Codec.none;
    if (this.#options.compression > 0) {
      const packed = zstdCompressSync(data, { params: { [zlib.ZSTD_c_compressionLevel]: this.#options.compression } });
      if (packed.length <= data.length * WORTH) {
        payload = packed;
        codec = Codec.zstd;
      }
    }
    this.#frame({ kind: FrameKind.data, codec, disk, stored: payload.length, offset, length: data.length }, payload);
    this.#dataBytes += data.length;
    // A plain payload is the caller's own memory: it has to be on its way before we return.
    await this.#flush(codec === Codec.none ? 0 : FLUSH_SIZE);
  }

  /** Takes a data frame over from another log, as it is stored there. `payload` is the log's from now on. */
  async copy(head: FrameHead, payload: Buffer): Promise<void> {
    this.#frame(head, payload);
    this.#dataBytes += head.length;
    await this.#flush(FLUSH_SIZE);
  }

  /** Records a run that reads as zeros. */
  async zero(disk: number, offset: number, length: number): Promise<void> {
    this.#frame({ kind: FrameKind.zero, codec: Codec.none, disk, stored: 0, offset, length }, Buffer.alloc(0));
    this.#zeroBytes += length;
    await this.#flush(FLUSH_SIZE);
  }

  /**
   * Writes index, footer and trailer and closes the file.
   * @param options.makes the position reached; computed from the chain when absent (forward logs).
   * @param options.durable fdatasync before closing (renaming and syncing the directory are the caller's).
   */
  async finish(options: { makes?: Position; durable: boolean }): Promise<LogFooter> {
    const indexAt = this.#position;
    const index = Buffer.concat(this.#index);
    this.#frame(
      { kind: FrameKind.index, codec: Codec.none, disk: 0, stored: index.length, offset: 0, length: 0 },
      index,
    );
    const logDigest = this.#digest.finish().toString('hex');
    const { follows, sequence, epoch } = this.header;
    const makes = options.makes ?? { epoch, sequence, state: chainState(follows.state, logDigest) };
    const footer: LogFooter = {
      makes,
      frames: this.#frames - 1,
      dataBytes: this.#dataBytes,
      zeroBytes: this.#zeroBytes,
      indexAt,
      logDigest,
    };
    const endAt = this.#position;
    const json = Buffer.from(JSON.stringify(footer), 'utf8');
    const head = { kind: FrameKind.end, codec: Codec.none, disk: 0, stored: json.length, offset: 0, length: 0 };
    this.#push(encodeFrameHead(head, json), json);
    const trailer = Buffer.alloc(TRAILER_SIZE);
    trailer.writeBigUInt64LE(BigInt(endAt), 0);
    TRAILER_MAGIC.copy(trailer, 8);
    this.#push(trailer);
    await this.#flush(0);
    if (options.durable) await this.#file.datasync();
    await this.#file.close();
    return footer;
  }

  /** Closes the file as it is, unfinished. Removing it is the caller's. */
  async abandon(): Promise<void> {
    await this.#file.close();
  }

  #frame(head: Omit<FrameHead, 'digest'>, payload: Buffer): void {
    const bytes = encodeFrameHead(head, payload);
    this.#digest.update(bytes.subarray(32));
    if (head.kind !== FrameKind.index) this.#index.push(indexEntry(bytes, this.#position));
    this.#frames++;
    if (payload.length > 0) this.#push(bytes, payload);
    else this.#push(bytes);
  }

  #push(...buffers: Buffer[]): void {
    for (const buffer of buffers) {
      this.#pending.push(buffer);
      this.#pendingBytes += buffer.length;
      this.#position += buffer.length;
    }
  }

  async #flush(threshold: number): Promise<void> {
    if (this.#pendingBytes <= threshold) return;
    let buffers = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    while (buffers.length > 0) {
      const { bytesWritten } = await this.#file.writev(buffers, this.#written);
      this.#written += bytesWritten;
      buffers = after(buffers, bytesWritten);
    }
    for (const listener of this.#listeners) listener();
  }
}

export const INDEX_ENTRY_SIZE = 40;

/** What an index holds of a frame: its head without the digest, and where it begins in the file. */
export function indexEntry(head: Buffer, at: number): Buffer {
  const entry = Buffer.alloc(INDEX_ENTRY_SIZE);
  head.copy(entry, 0, 0, 32);
  entry.writeBigUInt64LE(BigInt(at), 32);
  return entry;
}

/** What is left of `buffers` after their first `count` bytes: a write may be cut short. */
function after(buffers: Buffer[], count: number): Buffer[] {
  let left = count;
  let i = 0;
  while (i < buffers.length && left >= buffers[i]!.length) left -= buffers[i++]!.length;
  const rest = buffers.slice(i);
  if (left > 0) rest[0] = rest[0]!.subarray(left);
  return rest;
}
