/** A slice of the scripted week (`npm run test:soak -- week`): what an administrator does to a protected VM, in an order by chance. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { liveThrough } from '../soak/week.ts';

const SEED = Number(process.env['SEED'] ?? 19_539);
const OPERATIONS = 8;

test(`${OPERATIONS} operations of a week: replication goes on by itself, and both sides are byte-equal`, async () => {
  const progress = (text: string) => console.log(text);
  const signal = new AbortController().signal; // it ends by itself
  const { rounds, violation } = await liveThrough({ seed: SEED, minutes: 0, operations: OPERATIONS, progress, signal });
  assert.equal(violation, undefined, `SEED=${SEED}`);
  assert.equal(rounds, OPERATIONS);
});
