import type { Admit, Landed, Landing } from '../../deltalog/landing.ts';
import type { LogHeader } from '../../deltalog/header.ts';
import { workerModule, type Lanes, type Task } from '../../lanes/lanes.ts';
import { Failure } from '../../model/failure.ts';
import type { Arrival } from '../arrival.ts';
import type { BodyOf, Strand } from './threads.ts';
import type { Upload, Uploads } from './uploads.ts';

/** A task of the thread in which connections end. */
export function peersTask(name: 'listen' | 'setGuests' | 'readJson' | 'readChunks' | 'landBody' | 'joinUpload'): Task {
  return { module: workerModule(import.meta.url, './peers'), name };
}

export interface FirstStrand {
  /** The upload's. */
  readonly name: string;
  /** Byte of the log with which the upload begins. */
  readonly offset: number;
}

/** A request whose connection ends in another thread: its body, and whether it is still there. */
export class RemoteRequest {
  readonly #thread: Lanes;
  readonly #body: BodyOf;
  readonly #uploads: Uploads;
  readonly #peer: string;
  readonly #gone = new AbortController();
  /** What it has begun. */
  #upload: Upload | undefined;

  /** @param peer whose it is. */
  constructor(thread: Lanes, body: BodyOf, uploads: Uploads, peer: string) {
    this.#thread = thread;
    this.#body = body;
    this.#uploads = uploads;
    this.#peer = peer;
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

  /** The body as a log's bytes; with `strands` where it is the first strand of an upload of that name. */
  upload(strands?: FirstStrand): Arrival {
    const upload = strands && { request: this.#body.request, offset: strands.offset };
    if (upload !== undefined) this.#upload = this.#uploads.begin(this.#peer, strands!.name, upload);
    const body: BodyOf = { ...this.#body, ...(upload === undefined ? {} : { upload }) };
    return {
      land: (landing, admit, signal) => this.#land(body, landing, admit, signal),
      [Symbol.asyncIterator]: () => this.#chunks(body),
    };
  }

  /**
   * The body is another strand of that upload. Resolves when it has ended, or the upload has: throws then what became of it.
   * Failure `interrupted` when there is no such upload.
   */
  async join(name: string): Promise<void> {
    const upload = await this.#uploads.find(this.#peer, name, this.signal);
    const strand: Strand = { ...this.#body, upload: upload.strands };
    try {
      await this.#thread.run(peersTask('joinUpload'), strand);
    } catch (error) {
      throw upload.failure ?? error;
    }
    if (upload.failure !== undefined) throw upload.failure;
  }

  /** It has been answered, perhaps by a failure. */
  answered(failure?: Failure): void {
    if (this.#upload !== undefined) this.#uploads.end(this.#upload, failure);
  }

  async #land(body: BodyOf, landing: Landing, admit: Admit, signal: AbortSignal): Promise<Landed> {
    return await this.#thread.run<Landed>(
      peersTask('landBody'),
      { ...body, landing },
      { signal, onAsked: async (header) => await admit(header as LogHeader) },
    );
  }

  async *#chunks(body: BodyOf): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const chunks = await this.#thread.run<readonly Uint8Array[] | undefined>(peersTask('readChunks'), body);
      if (chunks === undefined) return;
      yield* chunks;
    }
  }
}
