/** Notices that nothing was heard for too long. Time during which nothing is expected doesn't count: `hush` stops it. */
export class Silence {
  readonly #timer: NodeJS.Timeout;
  #expecting = true;

  /** Calls `onSilence` once nothing was heard for `ms`. */
  constructor(ms: number, onSilence: () => void) {
    this.#timer = setTimeout(() => {
      if (this.#expecting) onSilence();
    }, ms);
  }

  /** A sign of life: the time starts again. */
  heard(): void {
    this.#expecting = true;
    this.#timer.refresh();
  }

  /** From now on it's our turn; `heard` starts the time again. */
  hush(): void {
    this.#expecting = false;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
