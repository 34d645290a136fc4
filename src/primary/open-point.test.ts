import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgePoint, POINT_LIMITS } from './open-point.ts';

const GOOD = { openMs: 29_000, scratchBytes: POINT_LIMITS.scratchBytes, freeBytes: POINT_LIMITS.reserveBytes };

void test('a point is held while its scratch files and its time are within their limits', () => {
  assert.equal(judgePoint(GOOD, POINT_LIMITS), undefined);
});

void test('a point is given up before its scratch files fill the file system, and says why', () => {
  assert.match(judgePoint({ ...GOOD, scratchBytes: GOOD.scratchBytes + 2 ** 20 }, POINT_LIMITS)!, /took 16385 MiB/);
  assert.match(judgePoint({ ...GOOD, freeBytes: GOOD.freeBytes - 2 ** 20 }, POINT_LIMITS)!, /only 511 MiB are free/);
  assert.match(judgePoint({ ...GOOD, openMs: 31_000 }, POINT_LIMITS)!, /open for 31 s/);
});
