import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PackingLevel, type PackingOptions } from './packing.ts';

const MIB = 2 ** 20;

/** A log of which 10 MiB more are packed each 50 ms, while the link takes 50 KiB; gives the levels until the end. */
function levels(change: Partial<PackingOptions>, ms: number): number[] {
  let now = 7000;
  const sent = () => (now - 7000) * MIB * 0.001;
  const options = { compression: 'auto', thins: false, lanes: 2, linkSpeed: MIB, patienceMs: 250, sent } as const;
  const level = new PackingLevel({ ...options, ...change }, () => now);
  const seen = [new Int32Array(level.shared)[0]!];
  for (let written = 10 * MIB; now < 7000 + ms; written += 10 * MIB) {
    now += 50;
    level.look(written);
    seen.push(new Int32Array(level.shared)[0]!);
  }
  return seen;
}

void test('a log for a slow link is packed harder for as long as patience lasts', () => {
  assert.deepEqual(levels({}, 400), [1, 1, 3, 3, 3, 3, 1, 1, 1]);
});

void test('what is to be packed once more, or at a level that somebody has set, stays as it is', () => {
  assert.deepEqual(new Set(levels({ thins: true }, 400)), new Set([1]));
  assert.deepEqual(new Set(levels({ compression: 'none' }, 400)), new Set([0]));
  assert.deepEqual(new Set(levels({ compression: 7 }, 400)), new Set([7]));
});

void test('a link that takes what it gets leaves it at 1', () => {
  assert.deepEqual(new Set(levels({ linkSpeed: 500 * MIB }, 900)), new Set([1]));
});
