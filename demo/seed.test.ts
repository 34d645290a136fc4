import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseOptions } from './options.ts';
import { seeded } from './seed.ts';

test('a seed gives the same numbers again, another seed others', () => {
  const some = (seed: number) => Array.from({ length: 1000 }, seeded(seed));
  assert.deepEqual(some(7), some(7));
  assert.notDeepEqual(some(7), some(8));
  assert.ok(some(7).every((number) => number >= 0 && number < 1));
  const mean = some(7).reduce((sum, number) => sum + number, 0) / 1000;
  assert.ok(Math.abs(mean - 0.5) < 0.05, `mean ${mean}`);
});

test('options: defaults, words, refusals', () => {
  const { until, keep, json, seed } = parseOptions([]);
  assert.deepEqual({ until, keep, json }, { until: 'home', keep: false, json: undefined });
  assert.notEqual(seed, parseOptions([]).seed);
  assert.equal(parseOptions(['--seed', '12', '--until', 'test']).seed, 12);
  for (const wrong of [['--until', 'never'], ['--seed', '-1'], ['--seed', 'x'], ['--sed'], ['home']]) {
    assert.throws(() => parseOptions(wrong), { code: 'bad-request' }, wrong.join(' '));
  }
});
