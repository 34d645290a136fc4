/** A lane's part of capturing: reads work items by its own NBD connections, packs them and writes them into the log. */
import { open, type FileHandle } from 'node:fs/promises';
import { Place, Segment } from '../deltalog/segment.ts';
import type { LaneContext } from '../lanes/context.ts';
import { crashPoint } from '../lib/crash-point.ts';
import type { Extent } from '../model/extent.ts';
import { readPieces, type Piece } from '../qemu/disk.ts';
import { NbdClient, type NbdAddress } from '../qemu/nbd/client.ts';
import { Differences } from './differences.ts';
import { READ_BYTES, type Work } from './work.ts';

const READ = { pieceSize: READ_BYTES, inFlight: 4, reuseMemory: true };
/** Gathered bytes go to the file in pieces of about this size. */
const SEGMENT = 1024 * 1024;

export interface CaptureInput {
  /** By index of the disk. */
  readonly exports: readonly NbdAddress[];
  /** The log, and the place of its next segment. */
  readonly path: string;
  readonly place: SharedArrayBuffer;
  /** zstd level now, one 32-bit number; 0: plain. */
  readonly level: SharedArrayBuffer;
}

/** Blocks of the items so far that were compared, and that were found different. */
export interface Compared {
  readonly compared: number;
  readonly different: number;
}

/** Asks its owner for work until there is none, and tells it of each segment that it has written. */
export async function capture(input: CaptureInput, context: LaneContext): Promise<Compared> {
  const lane = new CaptureLane(input, context, await open(input.path, 'r+'));
  const stop = (): void => lane.stop();
  context.signal.addEventListener('abort', stop, { once: true });
  try {
    for (;;) {
      context.signal.throwIfAborted();
      const work = await context.ask<Work | null>(null);
      if (work === null) break;
      await lane.take(work);
    }
    await lane.flush();
    return lane.found;
  } finally {
    context.signal.removeEventListener('abort', stop);
    await lane.close();
  }
}

class CaptureLane {
  readonly #input: CaptureInput;
  readonly #context: LaneContext;
  readonly #file: FileHandle;
  readonly #place: Place;
  readonly #level: Int32Array;
  readonly #segment = new Segment();
  readonly #clients: (NbdClient | undefined)[] = [];
  #writing: Promise<void> = Promise.resolve();
  #compared = 0;
  #different = 0;

  constructor(input: CaptureInput, context: LaneContext, file: FileHandle) {
    this.#input = input;
    this.#context = context;
    this.#file = file;
    this.#place = new Place(input.place);
    this.#level = new Int32Array(input.level);
  }

  get found(): Compared {
    return { compared: this.#compared, different: this.#different };
  }

  async take({ disk, extents, theirs }: Work): Promise<void> {
    this.#clients[disk] ??= await NbdClient.connect(this.#input.exports[disk]!);
    const differences = theirs === undefined ? undefined : new Differences(theirs);
    for await (const piece of readPieces(this.#clients[disk], extents, READ)) {
      this.#context.signal.throwIfAborted();
      crashPoint('cycle:reading');
      if (differences === undefined) {
        await this.#put(disk, piece, piece);
        continue;
      }
      const { compared, different, runs } = differences.of(piece);
      this.#compared += compared;
      this.#different += different;
      for (const run of runs) await this.#put(disk, piece, run);
    }
  }

  /** Puts a part of a piece into the log. */
  async #put(disk: number, piece: Piece, { offset, length }: Extent): Promise<void> {
    if (piece.zero) {
      this.#segment.zero(disk, offset, length);
    } else {
      const data = piece.data.subarray(offset - piece.offset, offset - piece.offset + length);
      // Its memory is read into again.
      if (this.#segment.data(disk, offset, data, Atomics.load(this.#level, 0))) return await this.flush();
    }
    if (this.#segment.bytes >= SEGMENT) await this.#begin();
  }

  /** Everything is in the file. */
  async flush(): Promise<void> {
    await this.#begin();
    await this.#writing;
  }

  /** Begins to write what is gathered, while the next is read and packed. */
  async #begin(): Promise<void> {
    await this.#writing;
    if (this.#segment.bytes === 0) return;
    this.#writing = this.#segment.write(this.#file, this.#place).then((written) => this.#context.tell(written));
    this.#writing.catch(() => undefined); // thrown at the next look
  }

  stop(): void {
    for (const client of this.#clients) client?.destroy();
  }

  async close(): Promise<void> {
    await this.#writing.catch(() => undefined); // thrown already, or given up
    await Promise.all(this.#clients.flatMap((client) => (client === undefined ? [] : [client.close()])));
    await this.#file.close();
  }
}
