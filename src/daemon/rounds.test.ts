import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../lib/clock.ts';
import { Rounds } from './rounds.ts';

void test('rounds follow each other until they are closed, which waits for the last', async () => {
  let begun = 0;
  let ended = 0;
  const rounds = new Rounds(1, async () => {
    begun++;
    await new Promise(setImmediate);
    ended++;
  });
  rounds.begin();
  await until(() => begun >= 3, { timeoutMs: 5000, onTimeout: () => new Error('no rounds') });
  await rounds.close();
  assert.equal(ended, begun);
  const last = begun;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(begun, last);
});

void test('a round that waits is told, and the pause between two is not waited for', async () => {
  const waits = new Rounds(3_600_000, (signal) => new Promise((resolve) => signal.addEventListener('abort', resolve)));
  waits.begin();
  await waits.close();
  let done = false;
  const pauses = new Rounds(3_600_000, async () => (done = true));
  pauses.begin();
  await until(() => done, { timeoutMs: 5000, onTimeout: () => new Error('no round') });
  await pauses.close();
});

void test('what was never begun is closed', async () => {
  await new Rounds(1, () => assert.fail('it was not begun')).close();
});
