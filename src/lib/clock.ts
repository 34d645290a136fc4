import { setTimeout as delay } from 'node:timers/promises';
import type { Wake } from './wake.ts';

/** Milliseconds since the epoch, by this host's clock. */
export type Now = () => number;

/** The clocks of a host, ms. */
export interface Clocks {
  /** What people read: somebody may set it, forth and back, at any time. */
  readonly now: Now;
  /** Goes on evenly; stands still while the host is suspended, as timers do. From any moment on. */
  readonly steady: Now;
  /** The same with the time that the host was suspended: see boot-clock.ts. */
  readonly boot: Now;
}

/** Waits `ms`, or throws the signal's reason when it aborts first. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw signal?.aborted === true ? signal.reason : error;
  }
}

/** Waits `ms` (Infinity: for a call only), or until one of `wakes` is called. Throws the signal's reason when it aborts first. */
export async function pause(ms: number, wakes: readonly Wake[], signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
  const ends = wakes.map((wake) => wake.listen(resolve));
  const giveUp = (): void => reject(signal?.reason);
  signal?.addEventListener('abort', giveUp, { once: true });
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    for (const end of ends) end();
    signal?.removeEventListener('abort', giveUp);
  }
}

/** Waits until `condition` holds, asking every `everyMs`; throws `onTimeout()` after `timeoutMs`. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  options: { timeoutMs: number; everyMs?: number; signal?: AbortSignal; onTimeout: () => Error },
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw options.onTimeout();
    await sleep(options.everyMs ?? 50, options.signal);
  }
}

/** Gives `work` a signal that aborts with `onTimeout()` after `ms`. What it gives or throws is its own. */
export async function within<T>(
  ms: number,
  onTimeout: () => Error,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(onTimeout()), ms);
  try {
    return await work(late.signal);
  } finally {
    clearTimeout(timer);
  }
}
