import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  carryOut,
  crashPoints,
  FINISHED,
  PLAN_ID,
  readWorld,
  UNTOUCHED,
  type World,
} from '../../test/faults/plan-runner.ts';

const RUNNER = join(import.meta.dirname, '../../test/faults/plan-runner.ts');

/** Runs the plan in a process of its own that dies at `point`; gives the signal that ended it. */
async function runUntil(directory: string, outcome: string, point: string): Promise<NodeJS.Signals | null> {
  const env = { ...process.env, UNDERSTUDY_CRASH: point };
  const child = spawn(process.execPath, [RUNNER, directory, outcome], { env, stdio: ['ignore', 'inherit', 'inherit'] });
  const [, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return signal;
}

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-journal-'));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function resumeAndCheck(directory: string, outcome: 'succeed' | 'fail'): Promise<void> {
  const journal = await carryOut(directory, outcome);
  const [state, world]: [string, World] = outcome === 'succeed' ? ['done', FINISHED] : ['undone', UNTOUCHED];
  assert.equal(journal.plan(PLAN_ID)?.state, state);
  assert.deepEqual(journal.pending(), []);
  assert.deepEqual(readWorld(directory), world);
}

describe('a plan whose process is killed', () => {
  for (const outcome of ['succeed', 'fail'] as const) {
    for (const point of crashPoints(outcome)) {
      test(`at ${point} ends, resumed, as if nothing had been`, async () => {
        await inDirectory(async (directory) => {
          assert.equal(await runUntil(directory, outcome, point), 'SIGKILL', 'the crash point was passed');
          await resumeAndCheck(directory, outcome);
        });
      });
    }
  }

  test('several times, at random points, ends all the same', async () => {
    const outcome = fc.constantFrom('succeed' as const, 'fail' as const);
    const points = fc.array(fc.constantFrom(...crashPoints('succeed'), ...crashPoints('fail')), {
      minLength: 2,
      maxLength: 3,
    });
    await fc.assert(
      fc.asyncProperty(outcome, points, async (result, crashes) => {
        await inDirectory(async (directory) => {
          for (const point of crashes) await runUntil(directory, result, point);
          await resumeAndCheck(directory, result);
        });
      }),
      { numRuns: 6 },
    );
  });
});
