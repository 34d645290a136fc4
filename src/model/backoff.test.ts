import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Retries, retryDelay } from './backoff.ts';

const intervals = fc.integer({ min: 1, max: 900 });

void test('what trying again cannot heal is not tried again', () => {
  assert.equal(retryDelay('never', 1, 5), undefined);
});

void test('a full disk is looked at again as Hyper-V Replica does: 1, 2, 4, 8, 10, 30, 30 … minutes', () => {
  const minutes = [1, 2, 3, 4, 5, 6, 7, 100].map((attempt) => retryDelay('space', attempt, 5)! / 60_000);
  assert.deepEqual(minutes, [1, 2, 4, 8, 10, 30, 30, 30]);
});

void test('a break is tried again at once, then later and later, up to two intervals or 10 s', () => {
  fc.assert(
    fc.property(intervals, (interval) => {
      const waits = Array.from({ length: 60 }, (_, i) => retryDelay('backoff', i + 1, interval)!);
      assert.equal(waits[0], 250);
      for (const [i, wait] of waits.entries()) {
        if (i > 0) assert.ok(wait >= waits[i - 1]! && wait <= 2 * waits[i - 1]!);
      }
      assert.equal(waits.at(-1), Math.min(1_800_000, Math.max(10_000, 2000 * interval)));
    }),
  );
});

void test('a failure of another class begins its own row; success begins all anew', () => {
  const retries = new Retries();
  const minutes = () => retries.after('space', 5)! / 60_000;
  for (let i = 0; i < 9; i++) retries.after('backoff', 5);
  assert.deepEqual([minutes(), minutes(), minutes()], [1, 2, 4], 'a full disk is no older than its first failure');
  assert.equal(retries.after('backoff', 5), 250, 'nor is a break that comes after it');
  assert.equal(retries.after('backoff', 5), 500);
  retries.reset();
  assert.equal(retries.after('backoff', 5), 250);
  assert.equal(retries.after('never', 5), undefined);
});
