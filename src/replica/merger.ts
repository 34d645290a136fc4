/**
 * Merges undo logs in the background, two at a time, until none is worth it. Nobody waits for it: it takes a share of
 * the time only, a small one while received logs wait to be applied, and a failure costs nothing but the room.
 */
import { crashPoint } from '../lib/crash-point.ts';
import { sleep } from '../lib/clock.ts';
import type { Gate } from '../lib/gate.ts';
import type { Log } from '../lib/log.ts';
import { asFailure, Failure } from '../model/failure.ts';
import type { ReplicaLayout } from './layout.ts';
import { writeMerged } from './merge.ts';
import type { UndoChain } from './undo-chain.ts';

export interface MergerParts {
  readonly layout: ReplicaLayout;
  readonly chain: UndoChain;
  /** Held while undo logs come and go. */
  readonly publishing: Gate;
  /** Whether received logs wait to be applied. */
  readonly busy: () => boolean;
  readonly log: Log;
}

/** Pauses are made after so many bytes. */
const STRETCH = 1024 * 1024;
/** Pause after a stretch, in times of what it took: with nothing else to do, and while logs wait. */
const IDLE_SHARE = 1;
const BUSY_SHARE = 9;
/** After a failure (a full disk, a damaged log) nothing is tried for so long, ms. */
const AFTER_FAILURE_MS = 60_000;

export class Merger {
  readonly #parts: MergerParts;
  #stop: AbortController | undefined;
  #loop: Promise<void> | undefined;
  #notBefore = -Infinity;

  constructor(parts: MergerParts) {
    this.#parts = parts;
  }

  /** Points may have been given up: merges what is worth it, unless it is at it already. */
  wake(): void {
    if (this.#loop !== undefined || performance.now() < this.#notBefore) return;
    const stop = new AbortController();
    this.#stop = stop;
    this.#loop = this.#run(stop.signal)
      .catch((error: unknown) => {
        if (stop.signal.aborted) return;
        this.#notBefore = performance.now() + AFTER_FAILURE_MS;
        this.#parts.log.warn({ err: asFailure(error, 'io') }, 'undo logs could not be merged: they take more room');
      })
      .finally(() => (this.#loop = undefined));
  }

  /** Resolves when nothing is being merged. */
  async idle(): Promise<void> {
    await this.#loop;
  }

  /** Ends a merge that is under way; what it has written goes. */
  async stop(): Promise<void> {
    this.#stop?.abort(new Failure('interrupted', 'merging was stopped'));
    await this.#loop;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { chain, layout, publishing } = this.#parts;
    for (let pair = chain.nextMerge(); pair !== undefined; pair = chain.nextMerge()) {
      signal.throwIfAborted();
      crashPoint('replica:merge');
      const chosen = pair;
      const temporary = layout.merging(pair.newer.follows.sequence);
      const merged = await writeMerged({ ...pair, temporary, pace: this.#pace(signal) });
      await publishing.run('merging undo logs', () => chain.replace(chosen, merged, temporary));
    }
  }

  #pace(signal: AbortSignal): (written: number) => Promise<void> {
    let done = 0;
    let since = performance.now();
    return async (written) => {
      signal.throwIfAborted();
      if (written - done < STRETCH) return;
      done = written;
      const took = performance.now() - since;
      await sleep(took * (this.#parts.busy() ? BUSY_SHARE : IDLE_SHARE), signal);
      since = performance.now();
    };
  }
}
