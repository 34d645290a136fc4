import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HOUR_SECONDS, pointsToKeep, type RetentionPolicy } from './retention.ts';

interface Point {
  readonly sequence: number;
  readonly instant: number;
}

const rule = fc.record({ everySeconds: fc.integer({ min: 1, max: 5000 }), count: fc.integer({ min: 1, max: 8 }) });
const policies = fc.record({ last: fc.nat(10), thin: fc.array(rule, { maxLength: 3 }) });
/** Newest first; clocks may be set back and jump ahead. */
const histories = fc.array(fc.integer({ min: -3000, max: 9000 }), { maxLength: 60 }).map((steps) => {
  let instant = 1_700_000_000_000;
  return steps.map((step, i) => ({ sequence: i + 1, instant: (instant += step * 100) })).toReversed();
});
const cases = fc.tuple(histories, policies, fc.boolean()).map(([points, policy, inCopy]) => {
  const latest = inCopy ? null : (points[0] ?? null);
  return { older: latest === null ? points : points.slice(1), latest, policy };
});

/** The rules, read as they are written. */
function oracle(older: readonly Point[], latest: Point | null, policy: RetentionPolicy): number[] {
  const all = latest === null ? older : [latest, ...older];
  const periodOf = (point: Point, everySeconds: number) => Math.floor(point.instant / 1000 / everySeconds);
  const kept = all.filter((point, i) => {
    if (i === 0 || older.indexOf(point) < policy.last) return true;
    return policy.thin.some(({ everySeconds, count }) => {
      const newer = all.slice(0, i).map((one) => periodOf(one, everySeconds));
      return !newer.includes(periodOf(point, everySeconds)) && new Set(newer).size < count;
    });
  });
  return kept.map(({ sequence }) => sequence);
}

void test('exactly the points that a rule names are kept, the newest one always', () => {
  fc.assert(
    fc.property(cases, ({ older, latest, policy }) => {
      const kept = pointsToKeep(older, latest, policy);
      assert.deepEqual(
        [...kept].toSorted((a, b) => b - a),
        oracle(older, latest, policy),
      );
      const newest = latest ?? older[0];
      assert.ok(newest === undefined || kept.has(newest.sequence));
    }),
    { numRuns: 2000 },
  );
});

void test('what was given up once is not missed later: retiring at each point leaves what retiring at the end leaves', () => {
  fc.assert(
    fc.property(histories, policies, (points, policy) => {
      let stepwise: Point[] = [];
      for (const latest of points.toReversed()) {
        const kept = pointsToKeep(stepwise, latest, policy);
        stepwise = [latest, ...stepwise].filter(({ sequence }) => kept.has(sequence));
      }
      const [latest, ...older] = points;
      if (latest === undefined) return;
      const atOnce = pointsToKeep(older, latest, policy);
      assert.deepEqual(new Set(stepwise.map(({ sequence }) => sequence)), atOnce);
    }),
    { numRuns: 2000 },
  );
});

void test('a policy in figures: 4 as they come, then 3 hours', () => {
  const every = 600;
  const points = Array.from({ length: 60 }, (_, i) => ({ sequence: 60 - i, instant: (60 - i) * every * 1000 }));
  const [latest, ...older] = points;
  const thin = [{ everySeconds: HOUR_SECONDS, count: 3 }];
  // Six a hour: 60 begins hour 10; 59 ends hour 9, 53 hour 8.
  assert.deepEqual(
    [...pointsToKeep(older, latest!, { last: 4, thin })].toSorted((a, b) => b - a),
    [60, 59, 58, 57, 56, 53],
  );
  assert.deepEqual([...pointsToKeep(older, latest!, { last: 0, thin: [] })], [60]);
  assert.deepEqual([...pointsToKeep(points, null, { last: 0, thin: [] })], [60]);
});

void test('a clock that jumps a year ahead and back costs a place in each rule at most, not the points from before', () => {
  const HOUR = HOUR_SECONDS * 1000;
  const YEAR = 365 * 24 * HOUR;
  const start = 1_795_000_000_000;
  const at = (sequence: number, instant: number) => ({ sequence, instant });
  // A point an hour for a day, three with the clock a year ahead, then on as before.
  const points = Array.from({ length: 24 }, (_, i) => at(i + 1, start + i * HOUR));
  for (let i = 0; i < 3; i++) points.push(at(25 + i, start + YEAR + 23 * HOUR + i * 60_000));
  for (let i = 0; i < 3; i++) points.push(at(28 + i, start + (24 + i) * HOUR));
  const policy = { last: 0, thin: [{ everySeconds: HOUR_SECONDS, count: 24 }] };
  let kept: Point[] = [];
  for (const latest of points) {
    const keep = pointsToKeep(kept, latest, policy);
    kept = [latest, ...kept].filter(({ sequence }) => keep.has(sequence));
  }
  assert.equal(kept.length, 24);
  assert.equal(kept.filter(({ sequence }) => sequence <= 24).length, 20, 'of the day before');
  assert.equal(
    kept.filter(({ sequence }) => sequence >= 25 && sequence < 28).length,
    1,
    'of the hour that is a year ahead',
  );
});
