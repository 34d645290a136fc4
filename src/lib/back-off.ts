/** How long to wait before trying again: doubling from `first` to `most` ms, until `reset`. */
export class BackOff {
  readonly #first: number;
  readonly #most: number;
  #next: number;

  constructor(first: number, most: number) {
    this.#first = first;
    this.#most = most;
    this.#next = first;
  }

  next(): number {
    const now = this.#next;
    this.#next = Math.min(this.#most, now * 2);
    return now;
  }

  reset(): void {
    this.#next = this.#first;
  }
}
