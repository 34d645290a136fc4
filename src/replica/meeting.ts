/** A place where several wait until all of them have come, and then for what is done about it. */
export class Meeting<T> {
  readonly #count: number;
  readonly #then: (brought: T[]) => Promise<void>;
  readonly #brought: T[] = [];
  readonly #over = Promise.withResolvers<void>();

  /** @param then done when the last has come, with what each has brought. */
  constructor(count: number, then: (brought: T[]) => Promise<void>) {
    this.#count = count;
    this.#then = then;
    this.#over.promise.catch(() => undefined); // told to whoever waits
  }

  /** Resolves, or rejects, as `then` does. */
  async arrive(brought: T): Promise<void> {
    if (this.#brought.push(brought) === this.#count)
      this.#then(this.#brought).then(this.#over.resolve, this.#over.reject);
    await this.#over.promise;
  }

  /** Somebody won't come: those who wait, or will, are rejected. */
  cancel(error: unknown): void {
    this.#over.reject(error);
  }
}
