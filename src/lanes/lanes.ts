/**
 * Lanes: worker threads that do the bulk work (reading, packing, hashing, sending, verifying, applying), so that the
 * daemon's event loop stays free for control, health and other VMs.
 *
 * A task is an exported function of a module `x.worker.ts`, called with plain data (whatever structured cloning takes,
 * shared memory too) and a `LaneContext`. What it owns (files, connections) it opens and closes itself. Its thread is shared with other
 * tasks: they take turns wherever they wait. A lane that dies takes its tasks down with `internal`; the next task starts another.
 */
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { Failure } from '../model/failure.ts';
import { decodeError, encodeError, type FromLane, type ToLane } from './wire.ts';

/** More lanes than this fight for memory bandwidth instead of helping each other. */
const MOST_LANES = 8;
/**
 * A lane's own objects are few (9 MiB), but 64 MiB of buffers a second come and go with them, which V8 adds to what it takes its
 * measure by: it would collect garbage each 16 MiB, for a quarter of all CPU time. From this size on V8's limit for buffers
 * alone counts, MiB. It holds for threads that begin later, and is no reservation.
 */
const HEAP_BEGINS_AT = 80;

/** A task: its module (of `workerModule`) and the name of the function that it exports. */
export interface Task {
  readonly module: string;
  readonly name: string;
}

export interface RunOptions {
  /** Aborts the task's own signal; the promise settles when the task has ended. */
  readonly signal?: AbortSignal;
  /** Told of what the task `tell`s, in order. */
  readonly onTold?: (message: unknown) => void;
  /** Answers what the task `ask`s. */
  readonly onAsked?: (question: unknown) => Promise<unknown>;
}

/**
 * URL of a task module beside the caller.
 * @param importMetaUrl the caller's `import.meta.url`: source files have neighbours by path, the bundle has them all in one folder.
 * @param path of the module in the sources, relative to the caller, without `.worker.ts`.
 */
export function workerModule(importMetaUrl: string, path: string): string {
  const inSources = importMetaUrl.endsWith('.ts');
  const name = inSources ? `${path}.worker.ts` : `./${path.slice(path.lastIndexOf('/') + 1)}.worker.mjs`;
  return new URL(name, importMetaUrl).href;
}

interface Running {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly options: RunOptions;
}

interface Lane {
  readonly worker: Worker;
  readonly tasks: Map<number, Running>;
  ended: boolean;
}

export class Lanes {
  readonly count: number;
  readonly #lanes: Lane[] = [];
  #ids = 0;
  #closed = false;

  /** @param count threads at most; they are started when they are needed first. */
  constructor(count = Math.max(2, Math.min(MOST_LANES, availableParallelism()))) {
    this.count = count;
  }

  /** Tasks under way on all lanes. */
  get busy(): number {
    return this.#lanes.reduce((sum, { tasks }) => sum + tasks.size, 0);
  }

  /** Runs a task on the lane that has least to do. Rejects with what the task threw, a Failure as a Failure. */
  async run<T>(task: Task, input: unknown, options: RunOptions = {}): Promise<T> {
    options.signal?.throwIfAborted();
    if (this.#closed) throw new Failure('interrupted', 'the daemon is stopping');
    const lane = this.#pick();
    const id = ++this.#ids;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    lane.tasks.set(id, { resolve, reject, options });
    lane.worker.ref();
    const abort = (): void => post(lane, { kind: 'abort', id, reason: encodeError(options.signal!.reason) });
    options.signal?.addEventListener('abort', abort, { once: true });
    try {
      post(lane, { kind: 'run', id, module: task.module, name: task.name, input });
      return (await promise) as T;
    } catch (error) {
      // What a task throws because it was told to end is the reason itself, as its owner knows it.
      if (options.signal?.aborted === true) throw options.signal.reason;
      throw error;
    } finally {
      options.signal?.removeEventListener('abort', abort);
      lane.tasks.delete(id);
      if (lane.tasks.size === 0) lane.worker.unref();
    }
  }

  /** Ends all lanes; tasks under way reject. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#lanes.map(({ worker }) => worker.terminate()));
  }

  #pick(): Lane {
    const idle = this.#lanes.find(({ tasks }) => tasks.size === 0);
    if (idle !== undefined) return idle;
    if (this.#lanes.length < this.count) return this.#start();
    return this.#lanes.reduce((least, lane) => (lane.tasks.size < least.tasks.size ? lane : least));
  }

  #start(): Lane {
    setFlagsFromString(`--initial-old-space-size=${HEAP_BEGINS_AT}`);
    const worker = new Worker(new URL(workerModule(import.meta.url, './lane')), { name: `lane ${this.#lanes.length}` });
    const lane: Lane = { worker, tasks: new Map(), ended: false };
    this.#lanes.push(lane);
    let cause: unknown;
    worker.on('message', (message: FromLane) => this.#heard(lane, message));
    worker.on('error', (error) => (cause = error));
    worker.on('exit', () => {
      lane.ended = true;
      this.#lanes.splice(this.#lanes.indexOf(lane), 1);
      const failure = this.#closed
        ? new Failure('interrupted', 'the daemon is stopping')
        : new Failure('internal', 'a worker thread died', { cause });
      for (const { reject } of lane.tasks.values()) reject(failure);
    });
    return lane;
  }

  #heard(lane: Lane, message: FromLane): void {
    const running = lane.tasks.get(message.id);
    if (running === undefined) return; // it has ended
    switch (message.kind) {
      case 'done':
        running.resolve(message.value);
        break;
      case 'failed':
        running.reject(decodeError(message.error));
        break;
      case 'told':
        running.options.onTold?.(message.message);
        break;
      case 'asked':
        void this.#answer(lane, message.id, message.question, message.content, running);
    }
  }

  async #answer(lane: Lane, id: number, question: number, content: unknown, running: Running): Promise<void> {
    const { onAsked } = running.options;
    try {
      if (onAsked === undefined) throw new Failure('internal', 'nobody answers the questions of this task');
      post(lane, { kind: 'answer', id, question, value: await onAsked(content) });
    } catch (error) {
      post(lane, { kind: 'refusal', id, question, error: encodeError(error) });
    }
  }
}

function post(lane: Lane, message: ToLane): void {
  if (!lane.ended) lane.worker.postMessage(message);
}
