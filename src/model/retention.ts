/**
 * Which recovery points are kept. Hyper-V Replica keeps the newest ones, one an hour at most; we keep the newest ones as they
 * come, and beyond them thin out by periods.
 *
 * Periods without any point don't count: a primary that is silent for a week must not cost the points from before. So
 * no clock is asked; only the points' own instants say which period they are of, and they may jump.
 */
import type { RecoveryPoint } from './relationship.ts';

/** Keeps the newest point of each of the newest `count` periods that have one. */
export interface ThinningRule {
  /** Length of a period, seconds, ≥ 1; periods begin at multiples of it since the epoch (UTC). */
  readonly everySeconds: number;
  /** 1..10000. */
  readonly count: number;
}

export interface RetentionPolicy {
  /** Points kept besides the latest state, 0..10000. */
  readonly last: number;
  readonly thin: readonly ThinningRule[];
}

export const HOUR_SECONDS = 3600;
export const DAY_SECONDS = 24 * HOUR_SECONDS;
export const WEEK_SECONDS = 7 * DAY_SECONDS;

type Point = Pick<RecoveryPoint, 'sequence' | 'instant'>;

/**
 * Sequences of the points to keep, by any of the policy's rules.
 * @param older the points besides the latest state, newest first.
 * @param latest the point that the disks hold now; it is kept in any case, and stands for its periods. Null in the middle of
 *   a copy: then the newest older point stays whatever the policy says, since there would be none.
 */
export function pointsToKeep(older: readonly Point[], latest: Point | null, policy: RetentionPolicy): Set<number> {
  const last = latest === null ? Math.max(1, policy.last) : policy.last;
  const kept = new Set(older.slice(0, last).map(({ sequence }) => sequence));
  const all = latest === null ? older : [latest, ...older];
  for (const { everySeconds, count } of policy.thin) {
    const periods = new Set<number>();
    for (const { sequence, instant } of all) {
      const period = Math.floor(instant / (everySeconds * 1000));
      if (periods.has(period)) continue;
      if (periods.size === count) break;
      periods.add(period);
      kept.add(sequence);
    }
  }
  if (latest !== null) kept.add(latest.sequence);
  return kept;
}
