import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nowFound } from './link-as-found.ts';

void test('a round trip that load made longer is not believed, one that is longer each time is', () => {
  assert.equal(nowFound(Number.POSITIVE_INFINITY, 5), 5);
  const loaded = [40, 3, 30, 25, 2, 60].reduce(nowFound, 1);
  assert.ok(loaded < 2, `${loaded} ms`);
  assert.equal(Array.from({ length: 50 }, () => 50).reduce(nowFound, 1), 50);
  assert.equal(nowFound(50, 1), 1);
});
