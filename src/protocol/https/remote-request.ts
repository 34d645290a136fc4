import type { Admit, Landed, Landing } from '../../deltalog/landing.ts';
import type { LogHeader } from '../../deltalog/header.ts';
import { workerModule, type Lanes, type Task } from '../../lanes/lanes.ts';
import { Failure } from '../../model/failure.ts';
import type { Arrival } from '../arrival.ts';
import type { BodyOf } from './threads.ts';

/** A task of the thread in which connections end. */
export function peersTask(name: 'listen' | 'setGuests' | 'readJson' | 'readChunks' | 'landBody'): Task {
  return { module: workerModule(import.meta.url, './peers'), name };
}

/** A request whose connection ends in another thread: its body, and whether it is still there. */
export class RemoteRequest {
  readonly #thread: Lanes;
  readonly #body: BodyOf;
  readonly #gone = new AbortController();

  constructor(thread: Lanes, body: BodyOf) {
    this.#thread = thread;
    this.#body = body;
  }

  /** Aborts when the connection is gone before the answer was given. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  gone(): void {
    this.#gone.abort(new Failure('interrupted', 'The connection of the request broke'));
  }

  /** The body as JSON. Failures: `bad-request` (too large, not JSON), `interrupted`. */
  async json(): Promise<unknown> {
    return await this.#thread.run(peersTask('readJson'), this.#body);
  }

  upload(): Arrival {
    return {
      land: (landing, admit, signal) => this.#land(landing, admit, signal),
      [Symbol.asyncIterator]: () => this.#chunks(),
    };
  }

  async #land(landing: Landing, admit: Admit, signal: AbortSignal): Promise<Landed> {
    return await this.#thread.run<Landed>(
      peersTask('landBody'),
      { ...this.#body, landing },
      { signal, onAsked: async (header) => await admit(header as LogHeader) },
    );
  }

  async *#chunks(): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const chunks = await this.#thread.run<readonly Uint8Array[] | undefined>(peersTask('readChunks'), this.#body);
      if (chunks === undefined) return;
      yield* chunks;
    }
  }
}
