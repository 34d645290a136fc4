import { Failure } from './failure.ts';

/** Longest time for which a VM is left to other programs, s. */
export const LONGEST_YIELD_SECONDS = 24 * 3600;

/** Until when a VM's domain is left alone, ms since the epoch; undefined: it isn't, or no longer. */
export function yieldedUntil({ yieldUntil = 0 }: { readonly yieldUntil?: number }, now: number): number | undefined {
  // further away than it can have been asked for: the clock was set back since
  if (yieldUntil > now + LONGEST_YIELD_SECONDS * 1000) return undefined;
  return yieldUntil > now ? yieldUntil : undefined;
}

/** What stands in the way meanwhile. */
export function yielding(vmName: string, until: number): Failure {
  const time = new Date(until).toISOString().slice(0, 16).replace('T', ' ');
  return new Failure('yielded', `${vmName} is left to other programs until ${time} UTC, as asked for`);
}
