import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Announced } from '../lab/guest/witness.ts';
import { judgeLoss, overlaps, problemsWhileWriting, sentOnlyDifferences } from './checks.ts';

/** Record n begins at 100 n and is complete at 100 n + 50; seen up to 5 ms later. */
const records = (count: number): { begun: Announced[]; completed: Announced[] } => {
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const announced = (after: number) =>
    numbers.map((number) => ({ number, notBefore: 100 * number + after - 5, seen: 100 * number + after }));
  return { begun: announced(0), completed: announced(50) };
};

test('lost is what was complete and is not there', () => {
  const loss = judgeLoss(records(10), 7, { instant: 780, by: 790 });
  assert.deepEqual(loss, { written: 10, lost: 3, lostBeforeInstant: 0, fromTheFuture: 0 });
});

test('a record complete before the instant must be there', () => {
  assert.equal(judgeLoss(records(10), 7, { instant: 850, by: 860 }).lostBeforeInstant, 1, 'seen just at the instant');
  assert.equal(judgeLoss(records(10), 7, { instant: 849, by: 860 }).lostBeforeInstant, 0, 'perhaps a moment too late');
});

test('a record begun after the point can not be there', () => {
  assert.equal(judgeLoss(records(10), 7, { instant: 600, by: 694 }).fromTheFuture, 1);
  assert.equal(judgeLoss(records(10), 7, { instant: 600, by: 695 }).fromTheFuture, 0, 'perhaps just in time');
});

test('a record that was begun, and never complete, is not lost', () => {
  const { begun, completed } = records(10);
  const loss = judgeLoss({ begun, completed: completed.slice(0, 9) }, 9, { instant: 1000, by: 1100 });
  assert.deepEqual(loss, { written: 9, lost: 0, lostBeforeInstant: 0, fromTheFuture: 0 });
});

test('two copies run when both are running at one moment, and only then', () => {
  const at = 0;
  const good = [
    { at, a: null, b: 'running' },
    { at, a: 'shut off', b: 'running' },
    { at, a: 'paused', b: 'running' },
    { at, a: 'running', b: 'shut off' },
  ];
  assert.equal(overlaps(good), 0);
  assert.equal(overlaps([...good, { at, a: 'running', b: 'running' }]), 1);
});

test('a full copy, or nothing at all, is no difference', () => {
  const full = { blocks: 1600, sentBytes: 100e6 };
  assert.ok(sentOnlyDifferences({ blocksDifferent: 76, sentBytes: 4e6 }, full));
  assert.ok(!sentOnlyDifferences({ blocksDifferent: 1600, sentBytes: 4e6 }, full));
  assert.ok(!sentOnlyDifferences({ blocksDifferent: 76, sentBytes: 98e6 }, full));
  assert.ok(!sentOnlyDifferences({ blocksDifferent: 0, sentBytes: 0 }, full), 'what was lost must differ');
});

test('vdb may have got ahead while vda was read, vda never by two', () => {
  const disk = (last: number, gaps = 0) => ({ count: last, first: 1, last, bad: 0, gaps, duplicates: 0, tornBytes: 0 });
  assert.deepEqual(problemsWhileWriting({ vda: disk(7), vdb: disk(9) }), []);
  assert.deepEqual(problemsWhileWriting({ vda: disk(8), vdb: disk(7) }), []);
  assert.match(problemsWhileWriting({ vda: disk(9), vdb: disk(7) }).join(), /not one instant/);
  assert.match(problemsWhileWriting({ vda: disk(7), vdb: disk(9, 1) }).join(), /missing in between/);
});
