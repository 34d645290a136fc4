import type { Silence } from './silence.ts';

/**
 * An upload's body on its way out. Hands on the source's chunks, tells `silence` whose turn it is (the source may be
 * slow: it is a log that is still being written), and can be stopped even while it waits for the source.
 */
export class Sending implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #silence: Silence;
  #stop: (() => void) | undefined;
  #stopped = false;
  /** What the source itself threw, if it did: not the network's fault. */
  sourceError: { readonly error: unknown } | undefined;

  constructor(source: AsyncIterable<Uint8Array>, silence: Silence) {
    this.#source = source[Symbol.asyncIterator]();
    this.#silence = silence;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    try {
      for (;;) {
        this.#silence.hush();
        const next = await this.#next();
        this.#silence.heard(); // the chunk before has been taken by the network
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      this.stop();
    }
  }

  /** Ends it: nothing more is taken from the source, which is told so. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#stop?.();
    // Not awaited: a source that waits for its next chunk comes to its end only then.
    this.#source.return?.().catch((error: unknown) => (this.sourceError ??= { error }));
  }

  #next(): Promise<IteratorResult<Uint8Array>> {
    return new Promise((resolve, reject) => {
      // An error, not an end: a body that was stopped must never look whole.
      this.#stop = () => reject(new Error('sending was stopped'));
      if (this.#stopped) this.#stop();
      else {
        this.#source.next().then(resolve, (error: unknown) => {
          this.sourceError = { error };
          reject(error as Error);
        });
      }
    });
  }
}
