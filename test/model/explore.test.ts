import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Explored } from './explore.ts';
import { standIn } from './hooks.ts';
import { MUTANTS } from './mutants.ts';
import type { Budget } from './world.ts';

standIn();
const { explore } = await import('./explore.ts');
const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));

/** Each is explored to its end: every order of what daemons, persons, guests and faults within it can do. */
const BUDGETS: readonly Partial<Budget>[] = [
  { failovers: 1, cuts: 1, writes: 1 },
  { failovers: 1, crashes: 1 },
  { failovers: 1, powerLosses: 1 },
  { failovers: 1, messages: 1 },
  { failovers: 1, errors: 1 },
  { failovers: 1, interruptions: 1 },
  { failovers: 2 },
  { planned: 1, failovers: 1 },
  { planned: 2, writes: 1 },
  { planned: 1, crashes: 1 },
  { planned: 1, powerLosses: 1, writes: 1 },
  { planned: 1, messages: 1, writes: 1 },
  { planned: 1, errors: 1 },
  { planned: 1, interruptions: 1 },
  { writes: 2, crashes: 1, messages: 1 },
  { writes: 2, crashes: 1, powerLosses: 1 },
  { planned: 1, writes: 2, known: 1 },
  { writes: 2, messages: 1, known: 1 },
  { writes: 2, crashes: 1, known: 1 },
  { writes: 2, powerLosses: 1, known: 1 },
  { failovers: 1, lease: 1 },
  { planned: 1, cuts: 1, lease: 1 },
  { resyncs: 1, powerLosses: 1, crashes: 1 },
  { resyncs: 1, failovers: 1, writes: 1 },
];

/** `UNDERSTUDY_EXPLORE=long`: an hour or so, each up to so many states. */
const LONG: readonly Partial<Budget>[] = [
  { failovers: 1, writes: 2, known: 1 },
  { writes: 3, crashes: 1, powerLosses: 1, known: 1 },
  { writes: 2, crashes: 1, resyncs: 1, known: 1 },
  { planned: 1, failovers: 1, crashes: 1 },
  { planned: 1, failovers: 1, powerLosses: 1 },
  { failovers: 1, cuts: 1, lease: 1 },
  { failovers: 1, crashes: 1, lease: 1 },
  { failovers: 1, powerLosses: 1, lease: 1 },
  { planned: 1, crashes: 1, lease: 1 },
  { planned: 1, powerLosses: 1, lease: 1 },
  { planned: 1, failovers: 1, cuts: 1, lease: 1 },
  { failovers: 2, cuts: 2, writes: 2 },
  { failovers: 1, cuts: 1, crashes: 2, messages: 1 },
  { failovers: 1, powerLosses: 2, interruptions: 1, cuts: 1 },
  { planned: 1, failovers: 1, crashes: 1, messages: 1 },
  { planned: 2, failovers: 1, writes: 2, powerLosses: 1 },
  { planned: 1, failovers: 1, errors: 1, interruptions: 1 },
];
const LONG_STATES = 300_000;
const long = process.env['UNDERSTUDY_EXPLORE'] === 'long';

// The mutants are processes of their own, beside.
void describe('exploration', { concurrency: 2 }, () => {
  void describe('the rules hold', { concurrency: 1 }, () => {
    for (const budget of long ? [...BUDGETS, ...LONG] : BUDGETS) {
      void test(`no rule is broken with ${JSON.stringify(budget)}`, async (t) => {
        const { states, transitions, depth, seconds, complete, violation } = await explore(budget, {
          states: LONG_STATES,
        });
        assert.equal(violation?.join('\n'), undefined);
        assert.ok(complete || long, 'explored to its end');
        t.diagnostic(`${states} states, ${transitions} transitions, depth ${depth}, ${seconds.toFixed(1)} s`);
      });
    }
  });

  void describe('a rule that is broken is noticed', { concurrency: 1 }, () => {
    for (const { budget, ...mutant } of MUTANTS) {
      void test(mutant.breaks, async () => {
        const args = [MAIN, JSON.stringify(budget), String(LONG_STATES), JSON.stringify(mutant)];
        const { stdout, stderr } = await promisify(execFile)(process.execPath, args);
        assert.equal(stderr, '');
        const { violation } = JSON.parse(stdout) as Explored;
        assert.ok(violation !== undefined, 'the exploration found nothing wrong');
      });
    }
  });
});
