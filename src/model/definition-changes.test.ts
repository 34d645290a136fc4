import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changesText, definitionChanges } from './definition-changes.ts';

void test('two definitions that say the same have no changes', () => {
  assert.deepEqual(definitionChanges({ a: '1', b: '2' }, { b: '2', a: '1' }), []);
});

void test('changes are told by their places, the first of many in words', () => {
  const changes = definitionChanges({ memory: '1', tpm: '', x: '1' }, { memory: '2', rng: '', vcpu: '4', x: '2' });
  assert.equal(changesText(changes), 'memory 1 → 2, rng new, tpm gone, vcpu 4 new and 1 more');
});
