/** When the next cycle is due, and how many fell due in vain since the last one began. All times in ms. */
export function nextCycle(
  lastStart: number | null,
  intervalSeconds: number,
  now: number,
): { due: number; missed: number } {
  if (lastStart === null) return { due: now, missed: 0 };
  const interval = intervalSeconds * 1000;
  // A clock that was set back must not hold replication up for as long.
  const due = Math.min(lastStart, now) + interval;
  if (now <= due) return { due, missed: 0 };
  return { due: now, missed: Math.floor((now - due) / interval) };
}
