import type { RetryClass } from './failure.ts';

/** Hyper-V Replica's waits between tries, minutes; the last one repeats (azure-docs, hyper-v-azure-architecture). */
const REFERENCE_MINUTES = [1, 2, 4, 8, 10, 30];

/**
 * How long to wait before try number `attempt` (1 = first retry), ms. Transport errors: the shorter of the
 * reference's and max(10 s, 2 × interval), beginning at a quarter second, so that a blink of the network costs a blink. What
 * needs room: the reference's. Undefined: don't try again.
 */
export function retryDelay(retry: RetryClass, attempt: number, intervalSeconds: number): number | undefined {
  if (retry === 'never') return undefined;
  const reference = REFERENCE_MINUTES[Math.min(attempt, REFERENCE_MINUTES.length) - 1]! * 60_000;
  if (retry === 'space') return reference;
  const ceiling = Math.min(reference, Math.max(10_000, 2000 * intervalSeconds));
  return Math.min(ceiling, 250 * 2 ** Math.min(attempt - 1, 20));
}

/** The waits of one thing that is tried until it succeeds. A failure of another class begins its own row of waits. */
export class Retries {
  #class: RetryClass | undefined;
  #attempt = 0;

  /** How long to wait after a failure, ms; undefined: don't try again. */
  after(retry: RetryClass, intervalSeconds: number): number | undefined {
    this.#attempt = retry === this.#class ? this.#attempt + 1 : 1;
    this.#class = retry;
    return retryDelay(retry, this.#attempt, intervalSeconds);
  }

  /** It went forward: the next failure is a first one. */
  reset(): void {
    this.#class = undefined;
  }
}
