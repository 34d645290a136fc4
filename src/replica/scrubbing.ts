/** Lets every replica of this host look for damage, each on its own schedule, one step at a time: disks have other things to do. */
import { sleep } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { asFailure } from '../model/failure.ts';
import type { Replica } from './replica.ts';
import type { Replicas } from './replicas.ts';

/** A scheduled pass is spread over this part of the time between two. */
const SPREAD = 1 / 2;
/** How often it is looked whether something is due, ms. */
const LOOK_MS = 1000;
/** And while somebody waits for a pass, ms. */
const PAUSE_MS = 20;
/** After a step that could not be done, ms. */
const AFTER_FAILURE_MS = 2000;

export interface ScrubbingOptions {
  readonly replicas: Replicas;
  /** From the beginning of a pass to that of the next; 0: only when asked for. */
  readonly passSeconds: number;
  readonly now: () => number;
  readonly log: Log;
}

export class Scrubbing {
  readonly #options: ScrubbingOptions;
  readonly #stop = new AbortController();
  /** By replica, when its next step may be made: ms by a clock that nobody sets. */
  readonly #nextAt = new Map<string, number>();
  /** Passes that a person waits for. */
  readonly #asked = new Set<string>();
  /** Of these, those that begin before the next step: what was behind a pass under way may have been damaged since. */
  readonly #anew = new Set<string>();
  #running: Promise<void> = Promise.resolve();
  #wake = new AbortController();

  constructor(options: ScrubbingOptions) {
    this.#options = options;
  }

  begin(): void {
    this.#running = this.#run(this.#stop.signal);
  }

  /** A whole pass begins at once, and goes on without pauses; one that was asked for before goes on. */
  async ask(replica: Replica): Promise<void> {
    if (replica.scrub.state.pass === null) await replica.scrub.begin(this.#options.now());
    else if (!this.#asked.has(replica.id)) this.#anew.add(replica.id);
    this.#asked.add(replica.id);
    this.#nextAt.delete(replica.id);
    this.#wake.abort();
  }

  isAsked(id: string): boolean {
    return this.#asked.has(id);
  }

  /** When the next pass begins, ms since the epoch; null: when asked for. */
  nextPass({ scrub }: Replica): number | null {
    const { passSeconds, now } = this.#options;
    if (passSeconds === 0) return null;
    const { last } = scrub.state;
    // A clock that was set back must not put it off for as long.
    return last === null || last.began > now() ? now() : last.began + passSeconds * 1000;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let went = false;
      for (const replica of this.#options.replicas.all()) {
        if (signal.aborted) return;
        went = (await this.#look(replica, signal)) || went;
      }
      if (went) continue;
      this.#wake = new AbortController();
      const pause = this.#asked.size > 0 ? PAUSE_MS : LOOK_MS;
      await sleep(pause, AbortSignal.any([signal, this.#wake.signal])).catch(() => undefined); // woken
    }
  }

  /** @returns whether a step was made. */
  async #look(replica: Replica, signal: AbortSignal): Promise<boolean> {
    const { now, passSeconds, log } = this.#options;
    const { id, scrub, frozen } = replica;
    if (frozen || performance.now() < (this.#nextAt.get(id) ?? 0)) return false;
    const due = this.nextPass(replica);
    if (scrub.state.pass === null && !this.#anew.has(id) && (due === null || due > now())) {
      this.#asked.delete(id);
      return false;
    }
    const began = performance.now();
    try {
      await scrub.begin(now(), this.#anew.delete(id));
      const { bytes, done } = await scrub.step(now(), signal);
      const took = performance.now() - began;
      const slow = (bytes / Math.max(1, scrub.size)) * passSeconds * 1000 * SPREAD;
      this.#nextAt.set(id, performance.now() + (this.#asked.has(id) ? took : Math.max(took, slow)));
      if (done && !this.#anew.has(id)) this.#asked.delete(id);
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      this.#nextAt.set(id, performance.now() + AFTER_FAILURE_MS);
      log.debug({ replica: id, err: asFailure(error, 'io') }, 'looking for damage waits');
      return false;
    }
  }
}
