import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { levelFor, LEVELS, type Packing } from './compression.ts';

const MIB = 2 ** 20;
const { plain, fast, hard } = LEVELS;
/** Two lanes pack 150 MiB/s, which an unknown link takes as it comes. */
const packing = (change: Partial<Packing>): Packing => ({
  ms: 500,
  written: 75 * MIB,
  sent: 70 * MIB,
  linkSpeed: null,
  busy: 0.5,
  patienceMs: 1000,
  ...change,
});

void test('as the rule, and as long as nothing is known, level 1', () => {
  assert.equal(levelFor(fast, packing({})), fast);
  assert.equal(levelFor(fast, packing({ ms: 5, written: MIB, sent: 0 })), fast);
  assert.equal(levelFor(fast, packing({ ms: 200, written: 30 * MIB, sent: 0 })), fast, 'connecting takes its time');
});

void test('harder while what waits for a link that is known to be slow would keep it busy for long, and patience lasts', () => {
  const scarce = { linkSpeed: 1.25 * MIB, ms: 100, written: 15 * MIB, sent: 0.1 * MIB };
  assert.equal(levelFor(fast, packing(scarce)), hard);
  assert.equal(levelFor(hard, packing(scarce)), hard);
  assert.equal(levelFor(hard, packing({ ...scarce, patienceMs: 100 })), fast);
  assert.equal(levelFor(fast, packing({ ...scarce, written: MIB })), fast, 'there is next to nothing to send');
  assert.equal(levelFor(fast, packing({ ...scarce, linkSpeed: 100 * MIB })), fast, 'it is fast');
});

void test('a link of which nothing is known shows what it is within a second', () => {
  const slow = { ms: 1100, written: 160 * MIB, sent: 2 * MIB, patienceMs: 5000 };
  assert.equal(levelFor(fast, packing(slow)), hard);
  assert.equal(levelFor(fast, packing({ ...slow, ms: 900 })), fast);
  assert.equal(levelFor(fast, packing({ ...slow, sent: 60 * MIB })), fast, 'so slow is a sender that lacks CPU');
});

void test('not at all where packing takes long and the sender waits for it, until it has something to do', () => {
  const long = { ms: 1500, written: 200 * MIB, sent: 199 * MIB, busy: 0.95 };
  assert.equal(levelFor(fast, packing(long)), plain);
  assert.equal(levelFor(fast, packing({ ...long, ms: 900 })), fast, 'it may be over soon');
  assert.equal(levelFor(fast, packing({ ...long, busy: 0.4 })), fast, 'it is reading that takes the time');
  assert.equal(levelFor(fast, packing({ ...long, sent: 190 * MIB })), fast);
  assert.equal(levelFor(plain, packing({ ...long, sent: 190 * MIB, busy: 0.2 })), plain, 'it goes on');
  assert.equal(levelFor(plain, packing({ ...long, sent: 180 * MIB })), fast);
});

void test('it does not swing to and fro: where it goes to in one step, it stays', () => {
  const mib = fc.integer({ min: 0, max: 4000 }).map((n) => n * MIB);
  const packings = fc.record({
    ms: fc.integer({ min: 1, max: 30_000 }),
    written: mib,
    linkSpeed: fc.option(fc.integer({ min: 1, max: 2000 * MIB })),
    busy: fc.double({ min: 0, max: 1.2, noNaN: true }),
    patienceMs: fc.integer({ min: 0, max: 5000 }),
    part: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(packings, fc.constantFrom(plain, fast, hard), ({ part, ...rest }, level) => {
      const now = { ...rest, sent: rest.written * part };
      const next = levelFor(level, now);
      assert.equal(levelFor(next, now), next);
      assert.ok(next !== hard || now.ms < now.patienceMs);
    }),
  );
});
