/**
 * Writes a delta log into a new file. What has been written can be read at once by whoever follows the file
 * (`written` grows); it is durable only after `finish({ durable: true })`.
 */
import { open, type FileHandle } from 'node:fs/promises';
import type { Position } from '../model/relationship.ts';
import { Contents } from './ending.ts';
import { Codec, encodeFrameHead, FrameKind, type FrameHead, type Place } from './frame.ts';
import { encodeHeader, type LogFooter, type LogHeader } from './header.ts';
import { Packer } from './pack.ts';
import type { StoredFrame } from './reader.ts';
import { writeAll } from '../lib/write-all.ts';

export { INDEX_ENTRY_SIZE, indexEntry, TRAILER_MAGIC, TRAILER_SIZE } from './ending.ts';

/** Gathered bytes are handed to the file system in pieces of about this size. */
const FLUSH_SIZE = 1024 * 1024;

export interface WriterOptions {
  /** 0: store plain; 1..19: zstd level. */
  readonly compression: number;
}

export class LogWriter {
  readonly path: string;
  readonly header: LogHeader;
  readonly #file: FileHandle;
  readonly #options: WriterOptions;
  readonly #packer = new Packer();
  readonly #contents: Contents;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #position = 0;
  #written = 0;
  readonly #listeners: (() => void)[] = [];

  private constructor(path: string, header: LogHeader, file: FileHandle, options: WriterOptions) {
    this.path = path;
    this.header = header;
    this.#file = file;
    this.#options = options;
    const { bytes, digest } = encodeHeader(header);
    this.#contents = new Contents(digest);
    this.#push(bytes);
  }

  /** Starts a log; an older file of that name is replaced. */
  static async create(path: string, header: LogHeader, options: WriterOptions): Promise<LogWriter> {
    return new LogWriter(path, header, await open(path, 'w', 0o600), options);
  }

  /** Bytes that a reader of the file can see. */
  get written(): number {
    return this.#written;
  }

  /** Bytes of disk recorded so far. */
  get changedBytes(): number {
    const { dataBytes, zeroBytes, referenceBytes } = this.#contents;
    return dataBytes + zeroBytes + referenceBytes;
  }

  get changedDataBytes(): number {
    return this.#contents.dataBytes;
  }

  /** Calls back each time that `written` has grown. */
  onGrow(listener: () => void): void {
    this.#listeners.push(listener);
  }

  get frames(): number {
    return this.#contents.frames;
  }

  /** Records bytes of a disk. `data` may be reused by the caller once the promise has resolved. */
  async data(disk: number, offset: number, data: Buffer): Promise<void> {
    const packed = this.#packer.pack(data, this.#options.compression, (n) => Buffer.allocUnsafeSlow(n));
    const codec = packed === undefined ? Codec.none : Codec.zstd;
    const payload = packed ?? data;
    this.#frame({ kind: FrameKind.data, codec, disk, stored: payload.length, offset, length: data.length }, payload);
    // A plain payload is the caller's own memory: it has to be on its way before we return.
    await this.#flush(codec === Codec.none ? 0 : FLUSH_SIZE);
  }

  /** Takes a data frame over from another log, as it is stored there. Its payload is the log's from now on. */
  async copy({ head, payload, pieces }: StoredFrame): Promise<void> {
    this.#frame(head, payload, pieces);
    await this.#flush(FLUSH_SIZE);
  }

  /** Records a run that reads as zeros. */
  async zero(disk: number, offset: number, length: number): Promise<void> {
    this.#frame({ kind: FrameKind.zero, codec: Codec.none, disk, stored: 0, offset, length }, NOTHING);
    await this.#flush(FLUSH_SIZE);
  }

  /** Records bytes that a data frame of this log has for another place, whole blocks of them; see FORMAT.md for what may be named. */
  async reference(disk: number, offset: number, length: number, source: Place): Promise<void> {
    this.#frame({ kind: FrameKind.reference, codec: Codec.none, disk, stored: 0, offset, length, source }, NOTHING);
    await this.#flush(FLUSH_SIZE);
  }

  /**
   * Writes index, footer and trailer and closes the file.
   * @param options.makes the position reached; computed from the chain when absent (forward logs).
   * @param options.durable fdatasync before closing (renaming and syncing the directory are the caller's).
   */
  async finish(options: { makes?: Position; durable: boolean }): Promise<LogFooter> {
    const { footer, bytes } = this.#contents.end(this.header, this.#position, options.makes);
    this.#push(...bytes);
    await this.#flush(0);
    if (options.durable) await this.#file.datasync();
    await this.#file.close();
    return footer;
  }

  /** Closes the file as it is, unfinished. Removing it is the caller's. */
  async abandon(): Promise<void> {
    await this.#file.close();
  }

  #frame(head: Omit<FrameHead, 'digest'>, payload: Buffer, pieces?: Buffer): void {
    const bytes = encodeFrameHead(head, payload, pieces);
    this.#contents.add(bytes, this.#position);
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
    const buffers = this.#pending;
    const bytes = this.#pendingBytes;
    this.#pending = [];
    this.#pendingBytes = 0;
    await writeAll(this.#file, buffers, this.#written);
    this.#written += bytes;
    for (const listener of this.#listeners) listener();
  }
}

const NOTHING = Buffer.alloc(0);
