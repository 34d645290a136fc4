import assert from 'node:assert/strict';
import { test } from 'node:test';
import { learnSpeed, paysToAsk } from './link-speed.ts';

const MIB = 1024 * 1024;

test('long logs tell how fast the link is, and newer ones count more than those before', () => {
  assert.equal(learnSpeed(null, { bytes: 4 * MIB, ms: 2000 }), 2 * MIB);
  assert.equal(learnSpeed(2 * MIB, { bytes: 4 * MIB, ms: 1000 }), 3 * MIB);
  let speed: number | null = 100 * MIB;
  for (let i = 0; i < 8; i++) speed = learnSpeed(speed, { bytes: MIB, ms: 1000 });
  assert.ok(speed! < 1.5 * MIB);
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

test('the replica is asked where the link is what takes the time', () => {
  const scarce = { logBytes: 10 * MIB, dataBytes: 25 * MIB, linkSpeed: 2.5 * MIB, askingSpeed: 64 * MIB };
  assert.ok(paysToAsk(scarce));
  assert.ok(!paysToAsk({ ...scarce, linkSpeed: null }), 'nothing is known of it');
  assert.ok(!paysToAsk({ ...scarce, linkSpeed: 100 * MIB }), 'it is fast');
  assert.ok(!paysToAsk({ ...scarce, logBytes: MIB, dataBytes: 3 * MIB }), 'it is soon done');
  assert.ok(!paysToAsk({ ...scarce, askingSpeed: 20 * MIB }), 'the replica reads slowly');
  assert.ok(!paysToAsk({ ...scarce, logBytes: 1000 * MIB, dataBytes: 0 }), 'nothing but zeros');
});
