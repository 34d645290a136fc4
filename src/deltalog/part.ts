/**
 * The file of a log that is being received. Bytes go to it as they come; what of them is verified and written, in whole
 * frames, is `good`: where sending goes on. Closed, it holds no more than that. A crash may leave a torn end, which is cut off.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { writeAll } from '../lib/write-all.ts';
import { Failure } from '../model/failure.ts';
import { LogParser } from './parser.ts';
import { resumeParser } from './reader.ts';

/** After this much the disk is told to write, while more comes in: little is left to wait for at the end. */
const SYNC_EVERY = 64 * 1024 * 1024;

export class Part {
  readonly parser: LogParser;
  readonly #file: FileHandle;
  #written: number;
  #synced: number;
  #syncing: Promise<void> | undefined;

  private constructor(file: FileHandle, parser: LogParser) {
    this.#file = file;
    this.parser = parser;
    this.#written = parser.accepted;
    this.#synced = parser.accepted;
  }

  /** Goes on with what is there, or begins. */
  static async open(path: string): Promise<Part> {
    const file = await openOrCreate(path);
    try {
      const parser = await resume(path);
      await file.truncate(parser.accepted);
      return new Part(file, parser);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get good(): number {
    return Math.min(this.#written, this.parser.accepted);
  }

  /** Writes bytes behind those before. The parser has seen them. */
  async write(bytes: readonly Buffer[]): Promise<void> {
    await writeAll(this.#file, bytes, this.#written, (count) => (this.#written += count));
    if (this.#written - this.#synced >= SYNC_EVERY) await this.#syncMeanwhile();
  }

  async sync(): Promise<void> {
    await this.#syncing;
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    try {
      await this.#syncing?.catch(() => undefined); // whoever needs it has had the error from `sync` or `write`
      if (this.#written > this.good) await this.#file.truncate(this.good);
    } finally {
      await this.#file.close();
    }
  }

  /** One at a time: who writes faster than the disk takes it waits for the disk here. */
  async #syncMeanwhile(): Promise<void> {
    await this.#syncing;
    this.#synced = this.#written;
    this.#syncing = this.#file.datasync();
    this.#syncing.catch(() => undefined); // thrown where it is waited for
  }
}

/** The parser that has accepted the good part of a file that may be torn. */
export async function resume(path: string): Promise<LogParser> {
  try {
    return await resumeParser(path);
  } catch (error) {
    // What a power loss left behind the good part may look like a frame of a later version: then from the beginning.
    if (error instanceof Failure && error.code === 'format-unknown') return new LogParser();
    throw error;
  }
}

async function openOrCreate(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return await open(path, 'wx+', 0o600);
  }
}
