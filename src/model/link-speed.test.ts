import assert from 'node:assert/strict';
import { test } from 'node:test';
import { learnSpeed } from './link-speed.ts';

const MIB = 1024 * 1024;

test('long logs tell how fast the link is', () => {
  assert.equal(learnSpeed(null, { bytes: 4 * MIB, ms: 2000 }), 2 * MIB);
  assert.equal(learnSpeed(2 * MIB, { bytes: 6 * MIB, ms: 1000 }), 3 * MIB);
  const slow = learnSpeed(100 * MIB, { bytes: MIB, ms: 1000 });
  assert.equal(slow, MIB, 'that it is slow now is believed at once');
  let speed: number | null = slow;
  for (let i = 0; i < 8; i++) speed = learnSpeed(speed, { bytes: 100 * MIB, ms: 1000 });
  assert.ok(speed! > 50 * MIB, String(speed));
});

test('a few bytes that took long tell that the link is slow', () => {
  assert.equal(learnSpeed(null, { bytes: 8000, ms: 4000 }), 2000);
});

test('a short log tells at most that the link is faster than was thought', () => {
  assert.equal(learnSpeed(null, { bytes: 10_000, ms: 50 }), null);
  assert.equal(learnSpeed(MIB, { bytes: 10_000, ms: 50 }), MIB);
  assert.equal(learnSpeed(1000, { bytes: 10_000, ms: 50 }), 200_000);
  assert.equal(learnSpeed(1000, { bytes: 0, ms: 50 }), 1000);
});
