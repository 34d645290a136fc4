import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lagOf, provenNow } from './lag.ts';

const YEAR = 365 * 86_400_000;
const HOUR = 3_600_000;
/** The primary's clock is an hour ahead of this host's; nothing strange has happened yet. */
const NOW = 1_795_000_000_000;
const BOOT = 5_000_000;
const offset = NOW + HOUR - BOOT;
const instant = NOW + HOUR - 700;

test('a clock that is ahead or behind is allowed for', () => {
  assert.equal(lagOf({ instant, offset, proven: undefined, now: NOW, boot: BOOT }), 700);
  assert.equal(
    lagOf({ instant, offset: undefined, proven: undefined, now: NOW, boot: BOOT }),
    0,
    'as well as can be known',
  );
});

test('once it is known, neither clock counts any more', () => {
  const proven = provenNow({ instant, offset, now: NOW, boot: BOOT });
  for (const jump of [YEAR, -YEAR, HOUR]) {
    assert.equal(
      lagOf({ instant, proven, offset, now: NOW + jump + 5000, boot: BOOT + 5000 }),
      5700,
      'this clock is set',
    );
    assert.equal(
      lagOf({ instant, proven, offset: offset + jump, now: NOW, boot: BOOT + 5000 }),
      5700,
      'the other one is',
    );
  }
});

test('the lag grows while the primary is silent, also when its clock was a year ahead', () => {
  const ahead = instant + YEAR;
  const facts = { instant: ahead, offset, now: NOW, boot: BOOT };
  const proven = provenNow(facts);
  assert.equal(lagOf({ ...facts, proven, now: NOW + 2 * HOUR, boot: BOOT + 2 * HOUR }), 2 * HOUR);
});

test('the time of a suspension counts', () => {
  const proven = provenNow({ instant, offset, now: NOW, boot: BOOT });
  assert.equal(lagOf({ instant, proven, offset, now: NOW + HOUR, boot: BOOT + HOUR }), HOUR + 700);
});

test('what was proven of another instant says nothing', () => {
  const proven = provenNow({ instant, offset, now: NOW, boot: BOOT });
  const later = { instant: instant + 5000, offset, now: NOW + 6000, boot: BOOT + 6000 };
  assert.equal(lagOf({ ...later, proven }), 1700);
});
