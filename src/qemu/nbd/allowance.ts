/** A bounded amount that is taken and given back, first come first served. More than all of it is taken alone. */
export class Allowance {
  readonly #most: number;
  #taken = 0;
  readonly #queue: { amount: number; go: () => void }[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  /** Waits until there is room; gives the function that gives it back. */
  async take(amount: number): Promise<() => void> {
    const counted = Math.min(amount, this.#most);
    if (this.#queue.length > 0 || this.#taken + counted > this.#most) {
      await new Promise<void>((go) => this.#queue.push({ amount: counted, go }));
    } else {
      this.#taken += counted;
    }
    return () => this.#give(counted);
  }

  #give(amount: number): void {
    this.#taken -= amount;
    let first = this.#queue[0];
    while (first !== undefined && this.#taken + first.amount <= this.#most) {
      this.#queue.shift();
      this.#taken += first.amount;
      first.go();
      first = this.#queue[0];
    }
  }
}
