/** A lane's part of capturing: reads work items by its own NBD connections, packs them and writes them into the log. */
import { open, type FileHandle } from 'node:fs/promises';
import type { Place } from '../deltalog/frame.ts';
import { Place as LogPlace, Segment } from '../deltalog/segment.ts';
import { DigestPages } from '../digests/digest-pages.ts';
import type { LaneContext } from '../lanes/context.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { DIGEST_SIZE } from '../lib/digest.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import { readPieces, type Piece, type ReadOptions } from '../qemu/disk.ts';
import { NbdClient, type NbdAddress } from '../qemu/nbd/client.ts';
import { differencesOf, LONG_ZEROS, type FindTwin, type Run } from './differences.ts';
import type { KnownPages } from './known-blocks.ts';
import { Learning, type Learned } from './learned.ts';
import { packsToNothing, Twins } from './twins.ts';
import { READ_BYTES, type Theirs, type Work } from './work.ts';

/** Gathered bytes go to the file in pieces of about this size. */
const SEGMENT = 1024 * 1024;

export interface CaptureInput {
  /** By index of the disk; undefined of one that isn't read. */
  readonly exports: readonly (NbdAddress | undefined)[];
  /** The log, and the place of its next segment. */
  readonly path: string;
  readonly place: SharedArrayBuffer;
  /** zstd level now, one 32-bit number; 0: plain. */
  readonly level: SharedArrayBuffer;
  /** What the replica is known to have, by disk. */
  readonly known: readonly (KnownPages | undefined)[];
  /** For `Twins`. */
  readonly twins: SharedArrayBuffer;
}

/** What a lane has found out in its items. */
export interface Found {
  /** Blocks that were compared with what the replica has, and those of them that were different. */
  readonly compared: number;
  readonly different: number;
  /** Bytes that were the same, and so aren't in the log. */
  readonly sameBytes: number;
  /** By disk; undefined where nothing was read of one. */
  readonly learned: readonly (Learned | undefined)[];
}

/** Asks its owner for work until there is none, and tells it of each segment that it has written. */
export async function capture(input: CaptureInput, context: LaneContext): Promise<Found> {
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
  readonly #place: LogPlace;
  readonly #level: Int32Array;
  readonly #twins: Twins;
  readonly #segment = new Segment();
  readonly #reading: ReadOptions = { pieceSize: READ_BYTES, inFlight: 4, memory: [] };
  readonly #clients: (NbdClient | undefined)[] = [];
  #writing: Promise<void> = Promise.resolve();
  readonly #known: (KnownDisk | undefined)[] = [];
  readonly #learning: (Learning | undefined)[] = [];
  #compared = 0;
  #different = 0;
  #sameBytes = 0;

  constructor(input: CaptureInput, context: LaneContext, file: FileHandle) {
    this.#input = input;
    this.#context = context;
    this.#file = file;
    this.#place = new LogPlace(input.place);
    this.#level = new Int32Array(input.level);
    this.#twins = new Twins(input.twins);
  }

  get found(): Found {
    const learned = this.#learning.map((learning) => learning?.take());
    return { compared: this.#compared, different: this.#different, sameBytes: this.#sameBytes, learned };
  }

  async take({ disk, extents, theirs }: Work): Promise<void> {
    const client = (this.#clients[disk] ??= await NbdClient.connect(this.#input.exports[disk]!));
    for await (const piece of readPieces(client, extents, this.#reading)) {
      this.#context.signal.throwIfAborted();
      crashPoint('cycle:reading');
      for (const run of await this.#differing(disk, piece, client.size, theirs)) await this.#put(disk, piece, run);
    }
  }

  /** The parts of a piece that have to be in the log. */
  async #differing(disk: number, piece: Piece, size: number, theirs?: Theirs): Promise<readonly Run[]> {
    const pages = this.#input.known[disk];
    // Nothing can be kept of that disk: nothing needs to be learned.
    if (theirs === undefined && pages === undefined) return [piece];
    const learning = (this.#learning[disk] ??= new Learning());
    const from = Math.floor(piece.offset / DIGEST_BLOCK);
    const to = Math.ceil((piece.offset + piece.length) / DIGEST_BLOCK);
    if (theirs === undefined && piece.zero && piece.length > LONG_ZEROS) {
      learning.unclear({ from, to });
      return [piece];
    }
    let digests: Buffer;
    if (theirs === undefined) {
      const known = (this.#known[disk] ??= await KnownDisk.open(pages!));
      digests = await known.read(from, to - from);
    } else {
      const start = (from - theirs.from) * DIGEST_SIZE;
      digests = Buffer.from(theirs.digests.buffer, theirs.digests.byteOffset + start, (to - from) * DIGEST_SIZE);
    }
    const toldBy = theirs === undefined ? 'known' : 'replica';
    const twinOf: FindTwin = (digest, offset, data) => this.#twinOf(digest, { disk, offset }, data);
    const { compared, different, sameBytes, runs } = differencesOf(piece, size, digests, learning, toldBy, twinOf);
    this.#compared += compared;
    this.#different += different;
    this.#sameBytes += sameBytes;
    return runs;
  }

  /** Where the log has the same block, if a reference to it is less than the block. */
  #twinOf(digest: Buffer, place: Place, data: Buffer): Place | undefined {
    const isLittle = Atomics.load(this.#level, 0) !== 0 && packsToNothing(data);
    return isLittle ? undefined : this.#twins.find(digest, place);
  }

  /** Puts a part of a piece into the log. */
  async #put(disk: number, piece: Piece, { offset, length, source, digests }: Run): Promise<void> {
    if (piece.zero) {
      this.#segment.zero(disk, offset, length);
    } else if (source !== undefined) {
      this.#segment.reference(disk, offset, length, source);
    } else {
      const data = piece.data.subarray(offset - piece.offset, offset - piece.offset + length);
      // Its memory is read into again.
      const pieces = digests === undefined ? undefined : Buffer.concat(digests);
      if (this.#segment.data(disk, offset, data, Atomics.load(this.#level, 0), pieces)) return await this.flush();
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
    for (const known of this.#known) await known?.close();
    await this.#file.close();
  }
}

/** What the replica is known to have of one disk. */
class KnownDisk {
  readonly #file: FileHandle;
  readonly #pages: DigestPages;

  private constructor(file: FileHandle, pages: DigestPages) {
    this.#file = file;
    this.#pages = pages;
  }

  static async open({ path, id }: KnownPages): Promise<KnownDisk> {
    const file = await open(path, 'r');
    return new KnownDisk(file, new DigestPages(file, id));
  }

  async read(from: number, count: number): Promise<Buffer> {
    return await this.#pages.read(from, count);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
