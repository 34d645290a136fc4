interface Waiting {
  readonly due: number;
  readonly enter: () => void;
}

/** Lets so many in at a time. Of those who wait, whoever has been due for longest comes next. */
export class Turns {
  readonly #most: number;
  #inside = 0;
  readonly #waiting: Waiting[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  /** How many are inside, and how many wait. */
  get counts(): { readonly inside: number; readonly waiting: number } {
    return { inside: this.#inside, waiting: this.#waiting.length };
  }

  /** @param due the lower, the earlier it comes in; of equal ones the first. Throws the signal's reason when it aborts before. */
  async run<T>(due: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    if (this.#inside < this.#most) this.#inside++;
    else await this.#wait(due, signal);
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  async #wait(due: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { due, enter: resolve };
    const after = this.#waiting.findIndex((other) => other.due > due);
    this.#waiting.splice(after === -1 ? this.#waiting.length : after, 0, waiting);
    const giveUp = (): void => {
      const at = this.#waiting.indexOf(waiting);
      if (at === -1) return; // it is in already
      this.#waiting.splice(at, 1);
      reject(signal.reason);
    };
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  /** The place is handed on: nobody who comes meanwhile takes it. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inside--;
    else next.enter();
  }
}
