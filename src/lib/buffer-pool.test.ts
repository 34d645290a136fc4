import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BufferPool } from './buffer-pool.ts';

test('memory is used again for what fits, and none is in two hands', () => {
  const pool = new BufferPool(64 * 1024);
  const first = pool.take(5000);
  const second = pool.take(5000);
  assert.equal(first.length, 5000);
  assert.notEqual(first.buffer, second.buffer);
  pool.give(first);
  const third = pool.take(8192);
  assert.equal(third.buffer, first.buffer);
  assert.equal(third.length, 8192);
  assert.notEqual(pool.take(6000).buffer, first.buffer);
});

test('what is more than the pool may keep goes', () => {
  const pool = new BufferPool(20_000);
  const [small, large] = [pool.take(1), pool.take(16_000)];
  pool.give(large);
  pool.give(small);
  const another = pool.take(4096);
  pool.give(another);
  assert.notEqual(pool.take(4096).buffer, small.buffer, 'there was room for 3,616 bytes only');
  assert.equal(pool.take(16_384).buffer, large.buffer);
});
