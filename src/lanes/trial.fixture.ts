/** Tasks for the test of the lanes. */
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { threadId } from 'node:worker_threads';
import { Failure } from '../model/failure.ts';
import type { LaneContext } from './context.ts';

export async function add({ numbers, memory }: { numbers: number[]; memory: SharedArrayBuffer }) {
  const sum = numbers.reduce((a, b) => a + b, 0);
  new Int32Array(memory)[0] = sum;
  return { thread: threadId, sum };
}

export async function thread(): Promise<number> {
  return threadId;
}

export async function untilStopped(_: unknown, { signal }: LaneContext): Promise<never> {
  if (!signal.aborted) await once(signal, 'abort');
  throw signal.reason;
}

export async function fail(how: string): Promise<void> {
  if (how === 'system') await stat('/nowhere/at/all');
  throw new Failure('bad-log', 'torn', { hint: 'do this' });
}

export async function converse(questions: number[], context: LaneContext): Promise<unknown[]> {
  const answers: unknown[] = [];
  for (const question of questions) {
    context.tell(`asking ${question}`);
    answers.push(await context.ask(question).catch((error: unknown) => (error as Failure).code));
  }
  return answers;
}

export async function die(): Promise<void> {
  process.exit(3);
}
