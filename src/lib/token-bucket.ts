/**
 * A token bucket: gives out an amount so that over any time no more is given than its rate allows, and what it holds when it is
 * full. It holds nothing but the time until which the rate is used up.
 */
export class TokenBucket {
  readonly #holdsMs: number;
  readonly #now: () => number;
  #usedUntil = Number.NEGATIVE_INFINITY;

  /** @param holdsMs what a full bucket holds: so many ms of the rate. @param now ms of a clock that never goes back. */
  constructor(holdsMs: number, now: () => number) {
    this.#holdsMs = holdsMs;
    this.#now = now;
  }

  /**
   * Takes an amount. Who takes next waits for it, so that turns are kept.
   * @param perSecond the rate, which may be another each time; 0: there is no limit.
   * @returns ms to wait before the amount may be used.
   */
  take(amount: number, perSecond: number): number {
    if (perSecond === 0 || amount === 0) return 0;
    const now = this.#now();
    this.#usedUntil = Math.max(this.#usedUntil, now - this.#holdsMs) + (amount / perSecond) * 1000;
    return Math.max(0, this.#usedUntil - now);
  }
}
