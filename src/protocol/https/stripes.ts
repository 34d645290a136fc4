import { Failure } from '../../model/failure.ts';
import { encodeChunkHead } from './chunk.ts';

/** Bytes that one strand is given at once: small, so that they arrive in nearly the order in which they are needed. */
const STRIPE = 128 * 1024;

interface Stripe {
  readonly offset: number;
  /** None at the log's end. */
  readonly bytes: Uint8Array;
}

/** A log's bytes, dealt out to the strands of an upload: each takes the next as soon as its connection has room. */
export class Stripes {
  readonly #source: AsyncIterator<Uint8Array>;
  /** What was read from the source and not dealt out yet. */
  #rest: Uint8Array = new Uint8Array(0);
  /** What comes after that: read while the network is busy. */
  #ahead: Promise<IteratorResult<Uint8Array, unknown>> | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #ended = false;
  /** Why nothing is dealt out any more. It lasts: what the source says after an error must never look like its end. */
  #failed: { readonly error: unknown } | undefined;
  #at: number;
  #sourceMs = 0;

  constructor(source: AsyncIterable<Uint8Array>, offset: number) {
    this.#source = source[Symbol.asyncIterator]();
    this.#at = offset;
  }

  /** Byte of the log that is dealt out next. */
  get at(): number {
    return this.#at;
  }

  /** Whether everything up to the log's end has been dealt out. */
  get ended(): boolean {
    return this.#ended && this.#rest.length === 0;
  }

  /** Time for which there was nothing to deal out, ms. */
  get sourceMs(): number {
    return this.#sourceMs;
  }

  /** The body of one strand, which ends with the log, or when it is retired. What the source throws, all of them throw. */
  async *strand(retired?: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const stripe = await this.#next(retired);
      if (stripe === undefined) return;
      yield encodeChunkHead(stripe.offset, stripe.bytes.length);
      if (stripe.bytes.length === 0) return;
      yield stripe.bytes;
    }
  }

  /** Ends it, whole or not: nothing more is taken from the source, which is told so. */
  close(): void {
    this.#failed ??= { error: new Failure('interrupted', 'Sending was stopped') };
    // Not waited for: a source that waits for its next chunk comes to its end only then. What it says then concerns nobody.
    void this.#source.return?.().catch(() => undefined);
  }

  /** One after the other, as they asked. */
  #next(retired: AbortSignal | undefined): Promise<Stripe | undefined> {
    const next = this.#turn.then(() => (retired?.aborted === true ? undefined : this.#deal()));
    this.#turn = next.catch(() => undefined);
    return next;
  }

  async #deal(): Promise<Stripe> {
    if (this.#rest.length === 0) await this.#refill();
    if (this.#failed !== undefined) throw this.#failed.error;
    const bytes = this.#rest.subarray(0, STRIPE);
    this.#rest = this.#rest.subarray(bytes.length);
    const offset = this.#at;
    this.#at += bytes.length;
    return { offset, bytes };
  }

  async #refill(): Promise<void> {
    const asked = performance.now();
    try {
      while (this.#rest.length === 0 && !this.#ended && this.#failed === undefined) {
        const { value, done } = await (this.#ahead ?? this.#source.next());
        this.#ended = done === true;
        if (done !== true) this.#rest = value;
        this.#ahead = this.#ended ? undefined : this.#source.next();
        this.#ahead?.catch(() => undefined); // it is told when that part is due
      }
    } catch (error) {
      this.#failed ??= { error };
    }
    this.#sourceMs += performance.now() - asked;
  }
}
