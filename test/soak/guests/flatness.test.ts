import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flatness, median } from './flatness.ts';

const BOUND = { part: 0.05, besides: 8 };
const HOUR = Array.from({ length: 360 }, (_, i) => i);
/** Up and down, and now and then far up. */
const noise = (i: number): number => ((i * 7919) % 13) + (i % 17 === 0 ? 80 : 0);

void test('what goes up and down, and what grows while it warms up, is flat', () => {
  assert.ok(flatness(HOUR.map(noise), BOUND).isFlat);
  assert.ok(
    flatness(
      HOUR.map((i) => noise(i) + Math.min(i, 100)),
      BOUND,
    ).isFlat,
  );
});

void test('what grows all the time is not, though little', () => {
  const { isFlat, middle, last, most } = flatness(
    HOUR.map((i) => 200 + noise(i) + i / 5),
    BOUND,
  );
  assert.ok(!isFlat);
  assert.ok(last - middle > 20 && most < last);
});

void test('medians', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});
