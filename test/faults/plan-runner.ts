/**
 * A plan whose effects are files, and a process that carries it out: `node plan-runner.ts DIRECTORY succeed|fail`.
 * Effects are such that doing one twice, leaving one out or doing them in another order shows in the end.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeAtomic } from '../../src/lib/atomic-file.ts';
import { Failure } from '../../src/model/failure.ts';
import { Journal } from '../../src/journal/journal.ts';
import { runPlan, type PlanDefinition, type PlanStep } from '../../src/journal/runner.ts';

export const PLAN_ID = '5f7c2f0e-52f4-4a0a-8f6f-0d8f4a4f3b10';
const STEPS = ['first', 'second', 'third'];

export interface World {
  /** A number that tells which effects happened in which order. */
  readonly value: number;
  readonly done: readonly number[];
}

export const UNTOUCHED: World = { value: 1, done: [] };
export const FINISHED: World = { value: ((1 * 7 + 1) * 7 + 2) * 7 + 3, done: [1, 2, 3] };

export function readWorld(directory: string): World {
  const path = join(directory, 'world');
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as World) : UNTOUCHED;
}

function step(directory: string, name: string, number: number): PlanStep<string> {
  const path = join(directory, 'world');
  return {
    name,
    async run(outcome) {
      const { value, done } = readWorld(directory);
      if (!done.includes(number)) {
        await writeAtomic(path, JSON.stringify({ value: value * 7 + number, done: [...done, number] }));
      }
      if (outcome === 'fail' && number === STEPS.length) throw new Failure('no-space', 'failed half done');
    },
    async undo() {
      const { value, done } = readWorld(directory);
      if (!done.includes(number)) return;
      const before = { value: (value - number) / 7, done: done.filter((other) => other !== number) };
      await writeAtomic(path, JSON.stringify(before));
    },
  };
}

export function definition(directory: string): PlanDefinition<string> {
  return { kind: 'test', steps: STEPS.map((name, index) => step(directory, name, index + 1)) };
}

/** Begins the plan, or goes on with it. */
export async function carryOut(directory: string, outcome: string): Promise<Journal> {
  const journal = await Journal.open(join(directory, 'journal'));
  const plan = await journal.begin(definition(directory), { relationship: 'r', args: {}, id: PLAN_ID });
  await runPlan(journal, definition(directory), plan, outcome).catch((error: unknown) => {
    if (!(error instanceof Failure && error.code === 'no-space')) throw error;
  });
  return journal;
}

/** Every crash point that such a plan passes. */
export function crashPoints(outcome: 'succeed' | 'fail'): string[] {
  const of = (name: string, ...places: string[]) => places.map((place) => `test:${name}:${place}`);
  if (outcome === 'succeed') return ['test:begun', ...STEPS.flatMap((name) => of(name, 'before', 'after', 'written'))];
  return ['test:undoing', ...STEPS.flatMap((name) => of(name, 'undo-before', 'undo-after', 'undo-written'))];
}

if (import.meta.main) await carryOut(process.argv[2]!, process.argv[3]!);
