/** No cycle begins sooner after another than this part of the interval. */
const LEAST_GAP = 0.1;

/**
 * Where in its interval the cycles of a relationship begin, in [0, 1): those of many with one interval are spread over it,
 * also when all of them have been started at the same moment.
 */
export function phaseOf(id: string): number {
  let hash = 0x811c9dc5; // FNV-1a, then mixed: ids that differ in their last letter only must differ in the high bits
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

/**
 * When the next cycle is due, and how many fell due in vain since the last one began. All times in ms of the steady clock: nobody sets it,
 * and a host that was suspended has missed nothing, since its guests stood still as well. The first is due at once, the others each at
 * the relationship's phase of an interval.
 * @returns due: in the past where it is late.
 */
export function nextCycle(
  lastStart: number | null,
  intervalSeconds: number,
  phase: number,
  now: number,
): { due: number; missed: number } {
  if (lastStart === null) return { due: now, missed: 0 };
  const interval = intervalSeconds * 1000;
  const soonest = lastStart + interval * LEAST_GAP;
  const due = (Math.ceil(soonest / interval - phase) + phase) * interval;
  return { due, missed: now <= due ? 0 : Math.floor((now - due) / interval) };
}
