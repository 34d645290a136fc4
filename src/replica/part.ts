/**
 * A log that is being received. The file never holds more than whole, verified frames (a crash may leave a torn end: it is
 * cut off), so its length is where sending goes on.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { LogParser } from '../deltalog/parser.ts';
import { resumeParser } from '../deltalog/reader.ts';
import { Failure } from '../model/failure.ts';
import type { LogHeader } from '../deltalog/header.ts';

export class Part {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #parser: LogParser;
  #written: number;

  private constructor(path: string, file: FileHandle, parser: LogParser) {
    this.path = path;
    this.#file = file;
    this.#parser = parser;
    this.#written = parser.accepted;
  }

  /** Goes on with what is there, or begins. */
  static async open(path: string): Promise<Part> {
    const file = await openOrCreate(path);
    try {
      const parser = await resume(path);
      await file.truncate(parser.accepted);
      return new Part(path, file, parser);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Bytes of it that are good. */
  get length(): number {
    return this.#written;
  }

  get header(): LogHeader | undefined {
    return this.#parser.header;
  }

  get parser(): LogParser {
    return this.#parser;
  }

  /** Verifies bytes and gives those that are good now; they go to the file by `write`. Throws `bad-log`. */
  verify(chunk: Buffer): Buffer[] {
    return this.#parser.push(chunk);
  }

  async write(whole: Buffer[]): Promise<void> {
    let buffers = whole;
    while (buffers.length > 0) {
      const { bytesWritten } = await this.#file.writev(buffers, this.#written);
      this.#written += bytesWritten;
      let left = bytesWritten;
      let i = 0;
      while (i < buffers.length && left >= buffers[i]!.length) left -= buffers[i++]!.length;
      buffers = buffers.slice(i);
      if (left > 0) buffers[0] = buffers[0]!.subarray(left);
    }
  }

  async sync(): Promise<void> {
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
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
