import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alternate, percentile, summarize, type Contestant } from './samples.ts';

test('contestants take turns, the warm-up does not count', async () => {
  const order: string[] = [];
  const make = (name: string): Contestant => ({
    name,
    prepare: async (round) => void order.push(`prepare ${name}${round}`),
    go: async (round) => {
      order.push(`${name}${round}`);
      return { seconds: round, cpuSeconds: 0, figures: {} };
    },
  });
  const samples = await alternate([make('a'), make('b')], 2, () => undefined);
  assert.deepEqual(
    order.filter((line) => !line.startsWith('prepare')),
    ['a-1', 'b-1', 'a0', 'b0', 'a1', 'b1'],
  );
  assert.deepEqual(order.slice(0, 2), ['prepare a-1', 'a-1']);
  assert.deepEqual(
    samples.get('b')!.map(({ seconds }) => seconds),
    [0, 1],
  );
});

test('median, spread and percentiles', () => {
  assert.deepEqual(summarize([3, 1, 2]), { median: 2, min: 1, max: 3, count: 3 });
  assert.equal(summarize([4, 1, 2, 3]).median, 2.5);
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  assert.equal(percentile(hundred, 99), 99);
  assert.equal(percentile(hundred, 100), 100);
  assert.equal(percentile([7], 50), 7);
});
