import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TokenBucket } from './token-bucket.ts';

void test('what is full gives at once what it holds, then at its rate', () => {
  let now = 5000;
  const bucket = new TokenBucket(100, () => now);
  assert.equal(bucket.take(50, 1000), 0);
  assert.equal(bucket.take(50, 1000), 0);
  assert.equal(bucket.take(500, 1000), 500);
  assert.equal(bucket.take(500, 1000), 1000, 'behind who came before');
  now += 1000;
  assert.equal(bucket.take(0, 1000), 0);
  assert.equal(bucket.take(30, 1000), 30);
  now += 60_000;
  assert.equal(bucket.take(100, 1000), 0, 'it is full again, and no fuller');
  assert.equal(bucket.take(100, 1000), 100);
});

void test('without a limit nobody waits, and a new rate holds for what comes', () => {
  const bucket = new TokenBucket(0, () => 0);
  assert.equal(bucket.take(1e12, 0), 0);
  assert.equal(bucket.take(100, 100), 1000);
  assert.equal(bucket.take(100, 1000), 1100);
});

void test('over any time no more is given than the rate allows and the bucket holds', () => {
  const takes = fc.array(fc.record({ idle: fc.nat(3000), amount: fc.integer({ min: 1, max: 5000 }) }), {
    minLength: 1,
  });
  fc.assert(
    fc.property(takes, fc.integer({ min: 1, max: 2000 }), fc.nat(500), (steps, rate, holdsMs) => {
      let now = 0;
      const bucket = new TokenBucket(holdsMs, () => now);
      const given: { at: number; amount: number }[] = [];
      for (const { idle, amount } of steps) {
        now += idle;
        given.push({ at: now + bucket.take(amount, rate), amount });
      }
      for (const [i, { at: from, amount: first }] of given.entries()) {
        let sum = 0;
        for (const { at, amount } of given.slice(i)) {
          sum += amount;
          // What the first of them took had to be there before it was given.
          assert.ok(sum - first <= (rate * (at - from + holdsMs)) / 1000 + 1e-3);
        }
      }
      const all = given.reduce((sum, { amount }) => sum + amount, 0);
      assert.ok(all <= (rate * (given.at(-1)!.at + holdsMs)) / 1000 + 1e-3);
    }),
  );
});
