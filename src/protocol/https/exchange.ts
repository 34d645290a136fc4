import type { IncomingMessage, ServerResponse } from 'node:http';
import { Failure } from '../../model/failure.ts';
import { readBody } from './body.ts';
import { MAX_JSON, SIGNS_OF_LIFE } from './wire.ts';

/** How long a client may go on sending after its answer, ms: closing at once could destroy the answer on its way. */
const LINGER_MS = 10_000;
/** What has come of a strand and wasn't taken, bytes: twice that is held at most, 12 MiB an upload. */
const STRAND_AHEAD = 512 * 1024;

/** The server's side of one request and its answer. */
export class Exchange {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #silenceMs: number;
  readonly #abort = new AbortController();
  readonly #life: NodeJS.Timeout;
  #body: AsyncGenerator<readonly Uint8Array[], void, void> | undefined;

  /** @param silenceMs how long an upload may bring no byte while one is waited for; sets the pace of our own signs of life. */
  constructor(request: IncomingMessage, response: ServerResponse, silenceMs: number) {
    this.#request = request;
    this.#response = response;
    this.#silenceMs = silenceMs;
    this.#life = setInterval(() => {
      if (!response.headersSent && !response.destroyed) response.writeProcessing();
    }, silenceMs / SIGNS_OF_LIFE);
    request.on('error', () => undefined); // whoever reads hears of it; nobody else cares
    response.once('close', () => {
      clearInterval(this.#life);
      if (!response.writableFinished)
        this.#abort.abort(new Failure('interrupted', 'The connection of the request broke'));
    });
  }

  /** Aborts when the connection is gone before the answer was given. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The body as JSON. Failures: `bad-request` (too large, not JSON), `interrupted`. */
  async json(): Promise<unknown> {
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const chunks of this.body()) {
      for (const chunk of chunks) size += chunk.length;
      if (size > MAX_JSON) throw new Failure('bad-request', `The request's body is larger than ${MAX_JSON} bytes`);
      parts.push(...chunks.map((chunk) => Uint8Array.from(chunk)));
    }
    try {
      return JSON.parse(Buffer.concat(parts).toString('utf8'));
    } catch (error) {
      throw new Failure('bad-request', "The request's body is not JSON", { cause: error });
    }
  }

  /** The body as it arrives, once; see `readBody`. */
  body(): AsyncGenerator<readonly Uint8Array[], void, void> {
    return (this.#body ??= readBody(this.#request, { silenceMs: this.#silenceMs }));
  }

  /** The body, which is one of an upload's strands: instead of `body`. Whether it says nothing for too long, all of them decide. */
  strand(): AsyncGenerator<readonly Uint8Array[], void, void> {
    return (this.#body ??= readBody(this.#request, { ahead: STRAND_AHEAD }));
  }

  answer(status: number, type: string, body: string | Uint8Array): void {
    clearInterval(this.#life);
    if (this.#response.destroyed) return;
    this.#response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
    this.#response.end(body);
    this.#discardRest();
  }

  /** An early answer finds the client still sending: its bytes are taken and dropped until it has noticed. */
  #discardRest(): void {
    const request = this.#request;
    if (request.complete && request.readableEnded) return;
    request.resume();
    const timer = setTimeout(() => request.socket.destroy(), LINGER_MS);
    const done = (): void => {
      clearTimeout(timer);
      request.socket.off('close', done);
    };
    request.once('end', done);
    request.socket.once('close', done); // node tells an answered request nothing more
  }
}
