/** How much a disaster now would lose, whatever is done to the clocks of two hosts. */

/** Clocks that are further apart are told of, ms. */
export const SKEW_LIMIT_MS = 5000;

/** When the latest state that is proven was noted on this host, and how old it was then. */
export interface Proven {
  /** Boot clock, ms. */
  readonly noted: number;
  /** ms. */
  readonly age: number;
  /** ms, the primary's clock: the instant of which it is. */
  readonly instant: number;
}

export interface LagFacts {
  /** ms, the primary's clock. */
  readonly instant: number;
  /** Undefined: nothing of this instant has been noted since the daemon began. */
  readonly proven: Proven | undefined;
  /** What the primary's clock shows minus what this host's boot clock does, ms; undefined: not known. */
  readonly offset: number | undefined;
  /** This host's clock, and its boot clock, ms. */
  readonly now: number;
  readonly boot: number;
}

/** ms ≥ 0. What the boot clock says counts before any other: nobody sets it. */
export function lagOf({ instant, proven, offset, now, boot }: LagFacts): number {
  if (proven !== undefined && proven.instant === instant) return Math.max(0, boot - proven.noted + proven.age);
  return Math.max(0, offset === undefined ? now - instant : boot + offset - instant);
}

/** On a primary an instant is this host's own; on a replica its age at arrival is known by the offset only. */
export function provenNow(facts: Omit<LagFacts, 'proven'>): Proven {
  return { instant: facts.instant, noted: facts.boot, age: lagOf({ ...facts, proven: undefined }) };
}
