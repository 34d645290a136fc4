/**
 * A call that may come at any time, again and again, to whoever waits for it just then. Not a promise: one that isn't settled for days would
 * keep what every wait hung on it, long after that wait has ended by its time.
 */
export class Wake {
  readonly #listeners = new Set<() => void>();

  /** How many listen. */
  get listeners(): number {
    return this.#listeners.size;
  }

  /** Calls `listener` at each call; gives the function that ends it. */
  listen(listener: () => void): () => void {
    const entry = (): void => listener();
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  call(): void {
    for (const listener of Array.from(this.#listeners)) listener();
  }
}
