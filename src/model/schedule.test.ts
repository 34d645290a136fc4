import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nextCycle } from './schedule.ts';

void test('the first cycle is due at once', () => {
  assert.deepEqual(nextCycle(null, 300, 5_000), { due: 5_000, missed: 0 });
});

void test('a cycle is due an interval after the last began, and never in the past', () => {
  const time = fc.integer({ min: 0, max: 10_000_000 });
  fc.assert(
    fc.property(time, fc.integer({ min: 1, max: 900 }), time, (lastStart, interval, since) => {
      const now = lastStart + since;
      const { due, missed } = nextCycle(lastStart, interval, now);
      assert.equal(due, Math.max(now, lastStart + interval * 1000));
      // By counting: how often an interval ended in vain, the one that is due now not among them.
      let counted = -1;
      for (let at = lastStart + interval * 1000; at <= now; at += interval * 1000) counted++;
      assert.equal(missed, Math.max(0, counted));
    }),
  );
});

void test('a clock that was set back delays a cycle by no more than an interval', () => {
  const { due, missed } = nextCycle(1_000_000, 5, 400_000);
  assert.ok(due - 400_000 <= 5_000, `due in ${due - 400_000} ms`);
  assert.equal(missed, 0);
});
