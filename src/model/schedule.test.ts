import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nextCycle, phaseOf } from './schedule.ts';

const time = fc.integer({ min: 0, max: 10_000_000 });
const seconds = fc.integer({ min: 1, max: 900 });
const phases = fc.double({ min: 0, max: 0.999, noNaN: true });

void test('the first cycle is due at once', () => {
  assert.deepEqual(nextCycle(null, 300, 0.5, 5_000), { due: 5_000, missed: 0 });
});

void test('a cycle is due at its phase, neither right after the last nor much more than an interval later', () => {
  fc.assert(
    fc.property(time, seconds, phases, time, (lastStart, interval, phase, since) => {
      const now = lastStart + since;
      const { due, missed } = nextCycle(lastStart, interval, phase, now);
      const gap = (due - lastStart) / (interval * 1000);
      assert.ok(gap > 0.0999 && gap < 1.1001, `after ${gap} intervals`);
      const slot = due / (interval * 1000) - phase;
      assert.ok(Math.abs(slot - Math.round(slot)) < 1e-6, `at ${slot}`);
      // By counting: how often an interval ended in vain, the one that is due now not among them.
      let counted = -1;
      for (let at = due; at <= now; at += interval * 1000) counted++;
      assert.equal(missed, Math.max(0, counted));
    }),
  );
});

void test('cycles keep their distance, whether timers are early or late', () => {
  fc.assert(
    fc.property(
      seconds,
      phases,
      fc.array(fc.integer({ min: -2, max: 80 }), { minLength: 3 }),
      (interval, phase, jitters) => {
        let last = nextCycle(1_000_000, interval, phase, 1_000_000).due;
        for (const jitter of jitters) {
          const began = last + jitter;
          const { due } = nextCycle(began, interval, phase, began);
          assert.ok(Math.abs(due - last - interval * 1000) < 1e-3, `${due - last} ms later`);
          last = due;
        }
      },
    ),
  );
});

void test('a hundred relationships that were started together do not go on together', () => {
  const names = [
    Array.from({ length: 100 }, (_, i) => `vm-${i}`),
    Array.from({ length: 100 }, () => crypto.randomUUID()),
  ];
  for (const ids of names) {
    const dues = ids.map((id) => nextCycle(1_000_000, 300, phaseOf(id), 1_000_000).due);
    for (let from = 1_030_000; from < 1_330_000; from += 30_000) {
      const count = dues.filter((due) => due >= from && due < from + 30_000).length;
      assert.ok(count <= 28, `${count} of 100 in a tenth of the interval`);
    }
  }
});
