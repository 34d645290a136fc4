import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareLimitOf, readLimitOf } from './read-limit.ts';

void test('a comparison is held to the limit of its host, or to that of the relationship where there is one', () => {
  assert.deepEqual(compareLimitOf({}, 100), { bytesPerSecond: 100, iops: 0 });
  assert.deepEqual(compareLimitOf({ readBytesPerSecond: 0, readIops: 0 }, 0), { bytesPerSecond: 0, iops: 0 });
  assert.deepEqual(compareLimitOf({ readBytesPerSecond: 500 }, 100), { bytesPerSecond: 500, iops: 0 });
  assert.deepEqual(compareLimitOf({ readIops: 10 }, 100), { bytesPerSecond: 0, iops: 10 });
  assert.deepEqual(readLimitOf({}), { bytesPerSecond: 0, iops: 0 });
});
