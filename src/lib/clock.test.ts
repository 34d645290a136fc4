import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep, within } from './clock.ts';

test('what takes too long is told why, with an error that its asker has made', async () => {
  const late = () => new Error('too late');
  await assert.rejects(
    within(5, late, (signal) => sleep(60_000, signal)),
    { message: 'too late' },
  );
  let signal: AbortSignal | undefined;
  assert.equal(await within(5, late, async (given) => ((signal = given), 'in time')), 'in time');
  await sleep(20);
  assert.equal(signal?.aborted, false, 'its time is over with it');
});
