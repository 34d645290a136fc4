/** A slice of the campaign of faults (`npm run test:soak -- faults`), with another seed each time. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { runFaults } from '../soak/faults.ts';

const seed = Number(process.env['SEED'] ?? randomBytes(4).readUInt32LE());

void test(`whatever breaks, every recovery point is what the disks held, and all gets well again (SEED=${seed})`, async (t) => {
  const story: string[] = [];
  const progress = (text: string): void => void story.push(text);
  const { signal } = t;
  const { rounds, violation } = await runFaults({ seed, progress, signal }, { steps: 3, relations: 2, diskMiB: 18 });
  assert.equal(violation, undefined, `${violation}\n${story.join('\n')}`);
  assert.ok(rounds >= 3, `${rounds} rounds`);
  t.diagnostic(`${rounds} rounds, seed ${seed}`);
});
