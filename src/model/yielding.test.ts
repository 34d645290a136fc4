import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LONGEST_YIELD_SECONDS, yieldedUntil, yielding } from './yielding.ts';

const NOW = Date.UTC(2026, 10, 21, 9, 15, 5);

test('a VM is left alone until the time that was asked for', () => {
  assert.equal(yieldedUntil({}, NOW), undefined);
  assert.equal(yieldedUntil({ yieldUntil: NOW + 1 }, NOW), NOW + 1);
  assert.equal(yieldedUntil({ yieldUntil: NOW }, NOW), undefined);
});

test('a clock that was set back leaves no VM alone for longer than anybody may ask for', () => {
  const longest = NOW + LONGEST_YIELD_SECONDS * 1000;
  assert.equal(yieldedUntil({ yieldUntil: longest }, NOW), longest);
  assert.equal(yieldedUntil({ yieldUntil: longest }, NOW - 1), undefined);
});

test('what stands in the way names the time', () => {
  const { code, message, retry } = yielding('web', NOW);
  assert.deepEqual([code, retry], ['yielded', 'backoff']);
  assert.match(message, /^web is left to other programs until 2026-11-21 09:15 UTC/);
});
