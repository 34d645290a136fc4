/**
 * When a comparison that has become necessary begins: Hyper-V Replica's automatic resynchronization, `always`, `never`, or in a
 * window of the day by the primary's own local time.
 */
import type { ReplicationState } from './relationship.ts';

/** `always`, `never`, or a window in which it may begin: `18:30-06:00`. */
export type AutoResync = string;

export const DEFAULT_AUTO_RESYNC: AutoResync = 'always';

/** Two times of a day; the window may pass midnight. Equal times are refused: nobody knows whether that is all day or no time. */
export const AUTO_RESYNC_PATTERN = /^(?:always|never|([01]\d|2[0-3]):([0-5]\d)-(?!\1:\2$)([01]\d|2[0-3]):([0-5]\d))$/;

/** Why both sides have to be compared, and who begins it. Means something in the two states of a comparison only. */
export interface ResyncNeed {
  /** In words: which bitmap, which disk, what happened. */
  readonly reason: string;
  /** `by-hand`: somebody has cancelled it, and somebody has to begin it; `at-once`: somebody has. */
  readonly begin: 'by-policy' | 'at-once' | 'by-hand';
}

export interface ResyncFacts {
  readonly state: ReplicationState;
  readonly autoResync?: AutoResync;
  readonly resync?: ResyncNeed | null;
}

/** What is known of a comparison that is due or under way. */
export function needOf({ state, resync }: ResyncFacts): ResyncNeed | undefined {
  return state === 'WaitingForStartResynchronize' || state === 'Resynchronizing' ? (resync ?? undefined) : undefined;
}

/** From when on a comparison may begin, ms since the epoch, in the past where it may already; null: not before a person says so. */
export function resyncFrom(facts: ResyncFacts, now: number): number | null {
  const begin = needOf(facts)?.begin ?? 'by-policy';
  // What was never complete is no more than an initial copy.
  const isInitial = facts.state === 'ReadyForInitialReplication' || facts.state === 'InitialReplicationInProgress';
  if (isInitial || begin === 'at-once') return now;
  return begin === 'by-hand' ? null : allowedFrom(facts.autoResync ?? DEFAULT_AUTO_RESYNC, now);
}

function allowedFrom(auto: AutoResync, now: number): number | null {
  if (auto === 'always') return now;
  const [, fromHour, fromMinute, toHour, toMinute] = AUTO_RESYNC_PATTERN.exec(auto) ?? [];
  if (fromHour === undefined) return null;
  const begins = timeOfDay(now, 0, fromHour, fromMinute);
  const ends = timeOfDay(now, 0, toHour, toMinute);
  const isInside = begins < ends ? begins <= now && now < ends : begins <= now || now < ends;
  if (isInside) return now;
  return begins > now ? begins : timeOfDay(now, 1, fromHour, fromMinute);
}

/** A time of the day that `now` is in, or so many days later, by local time: also on a day that has 23 hours. */
function timeOfDay(now: number, days: number, hour: string | undefined, minute: string | undefined): number {
  const day = new Date(now);
  return new Date(day.getFullYear(), day.getMonth(), day.getDate() + days, Number(hour), Number(minute)).getTime();
}
