/**
 * The owner's side of a view that runs in a lane. A lane may die (it takes all its tasks with it): then the view begins again in another
 * one, under the same socket, and who reads through a relay only waits.
 */
import { unlink } from 'node:fs/promises';
import { workerModule, type Lanes } from '../lanes/lanes.ts';
import { orAborted } from '../lib/abortable.ts';
import { sleep, within } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { asFailure, Failure } from '../model/failure.ts';
import type { NbdAddress } from '../qemu/nbd/client.ts';
import type { HeldLogs } from './held-logs.ts';
import type { ViewInput, ViewQuestion, ViewTrouble } from './view.worker.ts';

const TASK = { module: workerModule(import.meta.url, './view'), name: 'serveView' };
/** A view that hasn't taken in an undo log by then is ended, ms. */
const PUBLISH_MS = 10_000;
/** For so long the lane of a view may take to let go of it, ms. */
const CLOSE_MS = 10_000;
/** Pause before a view begins again, ms. */
const PAUSE_MS = 200;
/** So often in a row a view may end before it is served. */
const MOST_FAILURES = 5;

export interface ServedViewOptions extends Omit<ViewInput, 'logs' | 'fence'> {
  readonly sequence: number;
  readonly held: HeldLogs;
  readonly lanes: Lanes;
  /** Gives the exports of the flat disks, by index. */
  readonly flatDisks: () => Promise<NbdAddress[]>;
  readonly log: Log;
}

export class ServedView {
  readonly #options: ServedViewOptions;
  readonly #fence = new Int32Array(new SharedArrayBuffer(4));
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  /** Held logs that the view has been told of. */
  #told = 0;
  /** Resolves when the view has taken in all that it was told of, with what tells it of newer logs; rejects when it has ended. */
  #ready = pending();

  private constructor(options: ServedViewOptions) {
    this.#options = options;
    this.#ended = this.#run();
  }

  /** Resolves when it is served; throws why it can't be. */
  static async open(options: ServedViewOptions): Promise<ServedView> {
    const view = new ServedView(options);
    try {
      await view.#ready.promise;
      return view;
    } catch (error) {
      await view.close();
      throw error;
    }
  }

  get socketPath(): string {
    return this.#options.socketPath;
  }

  get sequence(): number {
    return this.#options.sequence;
  }

  /**
   * Takes in logs newer than all before, oldest first. The disks may be written when this settles: once it has failed the
   * view shows nothing any more, and is still to be closed.
   */
  async publish(logs: readonly string[]): Promise<void> {
    const late = () => new Failure('timeout', `a view did not take in an undo log within ${PUBLISH_MS / 1000} s`);
    try {
      await this.#options.held.add(logs);
      await within(PUBLISH_MS, late, (signal) =>
        orAborted(this.#follow(), AbortSignal.any([signal, this.#stop.signal])),
      );
    } catch (error) {
      Atomics.store(this.#fence, 0, 1);
      throw error;
    }
  }

  /** Ends it and its connections, and lets go of its logs. */
  async close(): Promise<void> {
    Atomics.store(this.#fence, 0, 1);
    this.#stop.abort(new Failure('interrupted', 'the view was closed'));
    const { log, sequence, socketPath, held } = this.#options;
    const late = () => new Failure('timeout', 'the lane of a view does not answer');
    await within(CLOSE_MS, late, (signal) => orAborted(this.#ended, signal)).catch((error: unknown) =>
      log.error({ err: error, sequence }, 'a view shows nothing any more, but its lane has not let go of it'),
    );
    await unlink(socketPath).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    await held.remove();
  }

  async #follow(): Promise<void> {
    const { held } = this.#options;
    for (;;) {
      const tell = await this.#ready.promise;
      const news = held.paths.slice(this.#told);
      if (news.length === 0) return;
      this.#told = held.paths.length;
      this.#ready = pending();
      tell(news);
    }
  }

  /** Serves it until it is closed, or can't be served any more. Never rejects. */
  async #run(): Promise<void> {
    const { log, sequence } = this.#options;
    let everServed = false;
    let failures = 0;
    for (;;) {
      let served = false;
      const failure = await this.#serve(() => (served = true));
      everServed ||= served;
      failures = served ? 0 : failures + 1;
      const isOver = this.#stop.signal.aborted || failure.code === 'interrupted';
      if (isOver || !everServed || failures > MOST_FAILURES) {
        if (served) this.#ready = pending();
        this.#ready.reject(failure);
        return;
      }
      log.error({ err: failure, sequence }, 'a view ended; it begins again');
      if (served) this.#ready = pending();
      await sleep(PAUSE_MS, this.#stop.signal).catch(() => undefined); // closed: the next try ends at once
    }
  }

  /** Runs it in a lane until it ends; gives why. */
  async #serve(onServed: () => void): Promise<Failure> {
    const { socketPath, owner, disks, held, lanes, flatDisks, log, sequence } = this.#options;
    const logs = [...held.paths];
    this.#told = logs.length;
    const fence = this.#fence.buffer as SharedArrayBuffer;
    const input: ViewInput = { socketPath, disks, logs, fence, ...(owner === undefined ? {} : { owner }) };
    const onAsked = async (question: unknown): Promise<unknown> => {
      if ((question as ViewQuestion) === 'disks') return await flatDisks();
      onServed();
      return await new Promise<readonly string[]>((resolve) => this.#ready.resolve(resolve));
    };
    const onTold = (trouble: unknown): void => {
      log.warn({ err: Failure.fromJson(trouble as ViewTrouble), sequence }, 'view');
    };
    try {
      await lanes.run(TASK, input, { signal: this.#stop.signal, onAsked, onTold });
      return new Failure('internal', 'a view ended by itself');
    } catch (error) {
      return asFailure(error, 'io');
    }
  }
}

type Tell = (logs: readonly string[]) => void;

/** Nobody may be waiting when it rejects. */
function pending(): PromiseWithResolvers<Tell> {
  const made = Promise.withResolvers<Tell>();
  made.promise.catch(() => undefined);
  return made;
}
