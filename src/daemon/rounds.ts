import { sleep } from '../lib/clock.ts';

/** Work that is done again and again, each time so long after the last time has ended, from `begin` until `close`. */
export class Rounds {
  readonly #everyMs: number;
  readonly #work: (signal: AbortSignal) => Promise<unknown>;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  /** @param work never rejects; told by its signal when it is to end. */
  constructor(everyMs: number, work: (signal: AbortSignal) => Promise<unknown>) {
    this.#everyMs = everyMs;
    this.#work = work;
  }

  begin(): void {
    this.#running = this.#run(this.#stop.signal);
  }

  /** Resolves when a round that is under way has ended, too. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#work(signal);
      await sleep(this.#everyMs, signal).catch(() => undefined); // closed: the loop ends
    }
  }
}
