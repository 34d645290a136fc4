/**
 * Lets one holder in at a time, first come first served. It names its holder, so that whoever is refused or waits can
 * be told who has it and since when.
 */
export class Gate {
  #tail: Promise<void> = Promise.resolve();
  #holder: { name: string; since: number } | undefined;

  get holder(): { readonly name: string; readonly since: number } | undefined {
    return this.#holder;
  }

  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tail;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#tail = promise;
    await before;
    this.#holder = { name, since: Date.now() };
    try {
      return await work();
    } finally {
      this.#holder = undefined;
      resolve();
    }
  }
}
