/** One lane: the thread's side. Runs what it is sent, several tasks at a time. */
import { parentPort } from 'node:worker_threads';
import type { LaneContext } from './context.ts';
import { decodeError, encodeError, type FromLane, type ToLane } from './wire.ts';

type TaskFunction = (input: unknown, context: LaneContext) => Promise<unknown>;

interface Running {
  readonly stop: AbortController;
  readonly questions: Map<number, PromiseWithResolvers<unknown>>;
}

const tasks = new Map<number, Running>();
const port = parentPort!;

port.on('message', (message: ToLane) => {
  if (message.kind === 'run') {
    void run(message.id, message.module, message.name, message.input);
    return;
  }
  const running = tasks.get(message.id);
  if (running === undefined) return; // it has ended
  if (message.kind === 'abort') {
    running.stop.abort(decodeError(message.reason));
    return;
  }
  const waiting = running.questions.get(message.question);
  running.questions.delete(message.question);
  if (message.kind === 'answer') waiting?.resolve(message.value);
  else waiting?.reject(decodeError(message.error));
});

function say(message: FromLane): void {
  port.postMessage(message);
}

async function run(id: number, module: string, name: string, input: unknown): Promise<void> {
  const running: Running = { stop: new AbortController(), questions: new Map() };
  tasks.set(id, running);
  let questions = 0;
  const context: LaneContext = {
    signal: running.stop.signal,
    tell: (message) => say({ kind: 'told', id, message }),
    ask: <T>(content: unknown) => {
      const question = ++questions;
      const waiting = Promise.withResolvers<unknown>();
      running.questions.set(question, waiting);
      say({ kind: 'asked', id, question, content });
      return waiting.promise as Promise<T>;
    },
  };
  try {
    const functions = (await import(module)) as Record<string, TaskFunction>;
    const value = await functions[name]!(input, context);
    say({ kind: 'done', id, value });
  } catch (error) {
    say({ kind: 'failed', id, error: encodeError(error) });
  } finally {
    tasks.delete(id);
  }
}
