/**
 * A delta log that is written in segments, by several threads at once (`segment.ts`). Here are its beginning and its end, and how
 * far it reaches without a gap: so far it can be read by whoever follows the file.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { Contents } from './ending.ts';
import { encodeHeader, type LogFooter, type LogHeader } from './header.ts';
import { Place, type WrittenSegment } from './segment.ts';
import type { Position } from '../model/relationship.ts';
import { writeAll } from '../lib/write-all.ts';

export class SegmentedLog {
  readonly path: string;
  readonly header: LogHeader;
  /** Where the next segment goes: for `Place`, in any thread. */
  readonly place: SharedArrayBuffer;
  readonly #file: FileHandle;
  readonly #contents: Contents;
  /** By where they begin: those behind a gap, which another thread is about to fill. */
  readonly #ahead = new Map<number, WrittenSegment>();
  #written: number;

  private constructor(path: string, header: LogHeader, file: FileHandle, headerDigest: Buffer, written: number) {
    this.path = path;
    this.header = header;
    this.#file = file;
    this.#contents = new Contents(headerDigest);
    this.#written = written;
    this.place = Place.startAt(written);
  }

  /** Starts a log; an older file of that name is replaced. */
  static async create(path: string, header: LogHeader): Promise<SegmentedLog> {
    const file = await open(path, 'w', 0o600);
    try {
      const { bytes, digest } = encodeHeader(header);
      await writeAll(file, [bytes], 0);
      return new SegmentedLog(path, header, file, digest, bytes.length);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Bytes from the beginning that a reader of the file can see. */
  get written(): number {
    return this.#written;
  }

  /** Frames, and bytes of disk that are not zeros, up to there. */
  get frames(): number {
    return this.#contents.frames;
  }

  get dataBytes(): number {
    return this.#contents.dataBytes + this.#contents.referenceBytes;
  }

  /** Takes note of a segment that is in the file. */
  add(segment: WrittenSegment): void {
    this.#ahead.set(segment.at, segment);
    for (let next = this.#ahead.get(this.#written); next !== undefined; next = this.#ahead.get(this.#written)) {
      this.#ahead.delete(next.at);
      const { buffer, byteOffset, length } = next.heads;
      this.#contents.add(Buffer.from(buffer, byteOffset, length), next.at);
      this.#written += next.bytes;
    }
  }

  /**
   * Once every segment is in: writes index, footer and trailer and closes the file.
   * @param options.makes the position reached; computed from the chain when absent (forward logs).
   * @param options.durable fdatasync before closing (renaming and syncing the directory are the caller's).
   */
  async finish(options: { makes?: Position; durable: boolean } = { durable: false }): Promise<LogFooter> {
    const { footer, bytes } = this.#contents.end(this.header, this.#written, options.makes);
    await writeAll(this.#file, bytes, this.#written);
    this.#written += bytes.reduce((sum, { length }) => sum + length, 0);
    if (options.durable) await this.#file.datasync();
    await this.#file.close();
    return footer;
  }

  /** Closes the file as it is, unfinished. Removing it is the caller's. */
  async abandon(): Promise<void> {
    await this.#file.close();
  }
}
