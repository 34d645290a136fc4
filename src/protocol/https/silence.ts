/**
 * Notices that nothing was heard for too long, and before that, that there is reason to doubt. Time during which nothing is
 * expected doesn't count: `hush` stops it.
 */
export class Silence {
  readonly #timers: readonly NodeJS.Timeout[];
  #expecting = true;
  #signs = 0;
  readonly #over = new AbortController();

  /** @param stages what to do once nothing was heard for `ms`; again each time after something was heard. */
  constructor(...stages: readonly { readonly ms: number; readonly act: () => void }[]) {
    this.#timers = stages.map(({ ms, act }) =>
      setTimeout(() => {
        if (this.#expecting) act();
      }, ms),
    );
  }

  /** A sign of life: the time starts again. */
  heard(): void {
    this.#expecting = true;
    this.#signs++;
    for (const timer of this.#timers) timer.refresh();
  }

  /** From now on it's our turn; `heard` starts the time again. */
  hush(): void {
    this.#expecting = false;
  }

  /** Gives the question whether it has gone on without a sign since now. */
  since(): () => boolean {
    const before = this.#signs;
    return () => this.#expecting && this.#signs === before && !this.#over.signal.aborted;
  }

  /** Aborts when nothing is waited for any more. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#over.abort();
  }
}
