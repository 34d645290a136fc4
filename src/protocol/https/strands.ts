import { Failure } from '../../model/failure.ts';
import { ChunkReader, type Piece } from './chunk.ts';
import { MOST_STRANDS } from './wire.ts';

type Body = AsyncIterator<readonly Uint8Array[]>;

/** One connection of an upload. */
interface Strand {
  readonly body: Body;
  readonly reader: ChunkReader;
  /** What has arrived and not been taken; more is read when there is none left. */
  pieces: Piece[];
  reading: boolean;
  readonly over: PromiseWithResolvers<void>;
}

/**
 * An upload that comes over several connections, twisted back into one. Nothing is put aside: a strand whose next bytes
 * aren't due yet isn't read any further, so that memory is bounded by what each strand holds, and the one that has the bytes
 * that are due is always read.
 */
export class Strands {
  readonly #silenceMs: number;
  /** Those that haven't ended. */
  readonly #strands = new Set<Strand>();
  #next: number;
  #end = Number.POSITIVE_INFINITY;
  #failed: { readonly error: unknown } | undefined;
  #closed = false;
  #wake: () => void = () => undefined;
  #bytes: AsyncGenerator<readonly Uint8Array[], void, void> | undefined;

  /**
   * @param offset in the log of the first byte that is due.
   * @param silenceMs how long none of its strands may bring a byte while one is waited for.
   */
  constructor(offset: number, silenceMs: number) {
    this.#next = offset;
    this.#silenceMs = silenceMs;
  }

  /**
   * Takes a connection's body in. Resolves when it has ended, or nothing more is wanted of it.
   * Failure `bad-request` when the upload has as many as it may.
   * @param body in chunks; without patience of its own: the silence of all together counts, and is watched here.
   */
  async join(body: Body): Promise<void> {
    if (this.#closed) return;
    if (this.#strands.size >= MOST_STRANDS) {
      throw new Failure('bad-request', `An upload has ${MOST_STRANDS} strands at most`);
    }
    const over = Promise.withResolvers<void>();
    this.#strands.add({ body, reader: new ChunkReader(), pieces: [], reading: false, over });
    this.#wake();
    await over.promise;
  }

  /**
   * The log's bytes in order, up to its end, once. Failures: those of the bodies; `timeout` (silence); `bad-request` (they are no
   * strands, or contradict each other).
   */
  get bytes(): AsyncGenerator<readonly Uint8Array[], void, void> {
    return (this.#bytes ??= this.#twist());
  }

  /** Nothing more is wanted. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { body, over } of this.#strands) {
      over.resolve();
      void body.return?.().catch(() => undefined); // not waited for: it may be waiting for its next bytes
    }
  }

  async *#twist(): AsyncGenerator<readonly Uint8Array[], void, void> {
    try {
      for (;;) {
        const due = this.#takeDue();
        if (due.length > 0) {
          yield due;
          continue;
        }
        if (this.#failed !== undefined) throw this.#failed.error;
        if (this.#next === this.#end) return;
        for (const strand of this.#strands) {
          if (strand.pieces.length === 0 && !strand.reading) void this.#read(strand);
        }
        await this.#more();
      }
    } finally {
      this.close();
    }
  }

  #takeDue(): Uint8Array[] {
    const due: Uint8Array[] = [];
    for (let found = true; found;) {
      found = false;
      for (const strand of this.#strands) {
        let taken = 0;
        for (const { offset, bytes } of strand.pieces) {
          if (bytes.length === 0) this.#end = offset;
          else if (offset === this.#next) due.push(bytes);
          else if (offset > this.#next) break;
          else throw new Failure('bad-request', `Byte ${offset} of the log came twice`);
          this.#next += bytes.length;
          taken++;
        }
        if (taken > 0) {
          strand.pieces = strand.pieces.slice(taken);
          found = true;
        }
      }
    }
    return due;
  }

  async #read(strand: Strand): Promise<void> {
    strand.reading = true;
    try {
      const { value, done } = await strand.body.next();
      if (done !== true) {
        strand.pieces = strand.reader.read(value);
      } else {
        if (!strand.reader.isBetween) throw new Failure('bad-request', 'A strand ended within a chunk');
        this.#strands.delete(strand);
        strand.over.resolve();
      }
    } catch (error) {
      this.#failed ??= { error };
    }
    strand.reading = false;
    this.#wake();
  }

  async #more(): Promise<void> {
    const more = Promise.withResolvers<void>();
    this.#wake = more.resolve;
    const silent = setTimeout(() => {
      const text = `No byte of the upload arrived for ${this.#silenceMs / 1000} s; byte ${this.#next} of the log is due`;
      this.#failed ??= { error: new Failure('timeout', text) };
      more.resolve();
    }, this.#silenceMs);
    await more.promise;
    clearTimeout(silent);
  }
}
