/**
 * The outbox: the one delta log of a relationship that has not been acknowledged yet. It is written at local speed while the
 * point is open and followed by the sender, who takes the network's time. It needs no fsync: until the
 * acknowledgement the old bitmap still has everything that is in it.
 */
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogFooter, LogHeader } from '../deltalog/header.ts';
import { LogReader } from '../deltalog/reader.ts';
import type { WrittenSegment } from '../deltalog/segment.ts';
import { SegmentedLog } from '../deltalog/segmented-log.ts';
import { Failure } from '../model/failure.ts';
import type { LogFile } from '../protocol/endpoint.ts';
import { follow } from '../protocol/follow.ts';

/** A log that can be sent from any offset: finished, or still growing. */
export interface Sendable {
  readonly logId: string;
  readonly sequence: number;
  /** Bytes from `offset` to the end; waits where the log is still being written. Throws when the writer gave up. */
  from(offset: number): AsyncGenerator<Buffer>;
  /** The same in its file. */
  readonly file?: Omit<LogFile, 'taken'>;
}

export class Outbox {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Where a log of that id lies, or would. */
  path(logId: string): string {
    return join(this.#directory, `${logId}.log`);
  }

  /**
   * Starts a log; whatever else is in the outbox is of no use any more and goes.
   * @param expected about how long it will be, bytes.
   */
  async begin(header: LogHeader, expected: number): Promise<GrowingLog> {
    await this.clear();
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    return new GrowingLog(await SegmentedLog.create(this.path(header.logId), header), expected);
  }

  /** A finished log of a former run with what its footer says; undefined if there is none, or it isn't whole. */
  async find(
    logId: string,
    sequence: number,
  ): Promise<{ log: Sendable; bytes: number; footer: LogFooter; header: LogHeader } | undefined> {
    const path = this.path(logId);
    let reader: LogReader;
    try {
      reader = await LogReader.open(path);
    } catch (error) {
      if (error instanceof Failure || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    const { header, footer } = reader;
    await reader.close();
    const { size } = await stat(path);
    const moreThan = async (have: number) => (have < size ? size : null);
    const log = {
      logId,
      sequence,
      from: (offset: number) => follow(path, offset, moreThan),
      file: { path, expected: size, moreThan },
    };
    return { log, bytes: size, footer, header };
  }

  async clear(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** A log being written, in segments, and followed at the same time. */
export class GrowingLog implements Sendable {
  readonly file: Omit<LogFile, 'taken'>;
  readonly #log: SegmentedLog;
  #ended: LogFooter | undefined;
  #failed: Error | undefined;
  #wake: PromiseWithResolvers<void> = Promise.withResolvers();

  constructor(log: SegmentedLog, expected: number) {
    this.#log = log;
    this.file = { path: log.path, expected, moreThan: async (have) => await this.moreThan(have) };
  }

  get header(): LogHeader {
    return this.#log.header;
  }

  get logId(): string {
    return this.header.logId;
  }

  get sequence(): number {
    return this.header.sequence;
  }

  get path(): string {
    return this.#log.path;
  }

  /** Where the next segment goes; see `Place`. */
  get place(): SharedArrayBuffer {
    return this.#log.place;
  }

  /** Bytes from the beginning that can be read; and of what is in them: frames, bytes of disk that are not zeros. */
  get written(): number {
    return this.#log.written;
  }

  get frames(): number {
    return this.#log.frames;
  }

  get dataBytes(): number {
    return this.#log.dataBytes;
  }

  /** Takes note of a segment that is in the file. */
  add(segment: WrittenSegment): void {
    this.#log.add(segment);
    this.#notify();
  }

  async finish(): Promise<LogFooter> {
    this.#ended = await this.#log.finish();
    this.#notify();
    return this.#ended;
  }

  /** Gives an unfinished log up: whoever follows it gets `reason`. */
  async abandon(reason: Error): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#failed = reason;
    this.#notify();
    await this.#log.abandon();
  }

  from(offset: number): AsyncGenerator<Buffer> {
    return follow(this.path, offset, this.file.moreThan);
  }

  /** Resolves with the bytes there are once more than `have` are there; null when there will be no more. */
  async moreThan(have: number): Promise<number | null> {
    for (;;) {
      if (this.#failed !== undefined) throw this.#failed;
      if (this.written > have) return this.written;
      if (this.#ended !== undefined) return null;
      await this.#wake.promise;
    }
  }

  #notify(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}
