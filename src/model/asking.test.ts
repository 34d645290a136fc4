import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Asking } from './asking.ts';

const MIB = 1024 * 1024;
const SCARCE = { logBytes: 10 * MIB, dataBytes: 25 * MIB, linkSpeed: 2.5 * MIB };

test('the replica is asked where the link is what takes the time', () => {
  const asking = new Asking();
  assert.ok(asking.pays(SCARCE));
  assert.ok(!asking.pays({ ...SCARCE, linkSpeed: null }), 'nothing is known of it');
  assert.ok(!asking.pays({ ...SCARCE, linkSpeed: 100 * MIB }), 'it is fast');
  assert.ok(!asking.pays({ ...SCARCE, logBytes: MIB, dataBytes: 3 * MIB }), 'it is soon done');
  assert.ok(!asking.pays({ ...SCARCE, dataBytes: 0 }), 'nothing but zeros');
});

test('a replica that reads slowly is left alone for a while', () => {
  const asking = new Asking();
  asking.answered(25 * MIB, 10_000);
  let without = 0;
  while (!asking.pays(SCARCE)) without++;
  assert.ok(without > 0 && without < 10, `${without} logs`);
});

test('where asking saved nothing it has to cost next to nothing, where it saved much it may cost more', () => {
  const asking = new Asking();
  asking.answered(25 * MIB, 1200);
  assert.ok(!asking.pays(SCARCE));
  asking.saved(0.9);
  asking.answered(25 * MIB, 1200);
  assert.ok(asking.pays(SCARCE));
  asking.saved(0);
  assert.ok(!asking.pays(SCARCE));
  asking.answered(25 * MIB, 100);
  assert.ok(asking.pays(SCARCE));
});

test('one log that had nothing to save does not end it', () => {
  const asking = new Asking();
  for (const part of [0.9, 0, 0.9, 0]) {
    asking.answered(25 * MIB, 400);
    assert.ok(asking.pays(SCARCE));
    asking.saved(part);
  }
});

test('a peer that does not know the question is not asked again', () => {
  const asking = new Asking();
  asking.isOlder();
  assert.ok(!asking.pays(SCARCE));
});
