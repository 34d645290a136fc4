import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from './failure.ts';
import { mismatch, NOT_FOLLOWING, type NotFollowing } from './not-following.ts';

void test('each kind says itself and has a cure of its own, also when it comes over the wire', () => {
  const kinds = Object.keys(NOT_FOLLOWING) as NotFollowing[];
  const hints = kinds.map((kind) => {
    const told = Failure.fromJson(JSON.parse(JSON.stringify(mismatch(kind, 'log 3'))) as Failure);
    assert.equal(told.code, 'not-following');
    assert.equal(told.message, `${kind}: log 3`);
    return told.hint;
  });
  assert.equal(new Set(hints).size, kinds.length);
});
