import type { IncomingMessage, ServerResponse } from 'node:http';
import { Failure } from '../../model/failure.ts';
import { MAX_JSON, SIGNS_OF_LIFE } from './wire.ts';

/** How long a client may go on sending after its answer, ms: closing at once could destroy the answer on its way. */
const LINGER_MS = 10_000;

/** The server's side of one request and its answer. */
export class Exchange {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #silenceMs: number;
  readonly #abort = new AbortController();
  readonly #life: NodeJS.Timeout;

  /** @param silenceMs how long an upload may bring no byte while one is waited for; sets the pace of our own signs of life. */
  constructor(request: IncomingMessage, response: ServerResponse, silenceMs: number) {
    this.#request = request;
    this.#response = response;
    this.#silenceMs = silenceMs;
    this.#life = setInterval(() => {
      if (!response.headersSent && !response.destroyed) response.writeProcessing();
    }, silenceMs / SIGNS_OF_LIFE);
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
    for await (const part of this.upload()) {
      size += part.length;
      if (size > MAX_JSON) throw new Failure('bad-request', `The request's body is larger than ${MAX_JSON} bytes`);
      parts.push(part);
    }
    try {
      return JSON.parse(Buffer.concat(parts).toString('utf8'));
    } catch (error) {
      throw new Failure('bad-request', "The request's body is not JSON", { cause: error });
    }
  }

  /**
   * The body as it arrives. No more is read from the network than is asked for here, so a slow taker slows the sender.
   * Failures: `interrupted` (the connection broke before the end), `timeout` (no byte for too long).
   */
  async *upload(): AsyncGenerator<Uint8Array, void, void> {
    const request = this.#request;
    let waiting = false;
    let silence: Failure | undefined;
    const timer = setTimeout(() => {
      if (!waiting) return;
      silence = new Failure('timeout', `No byte of the upload arrived for ${this.#silenceMs / 1000} s`);
      request.destroy();
    }, this.#silenceMs);
    const chunks = request.iterator({ destroyOnReturn: false });
    try {
      for (;;) {
        waiting = true;
        timer.refresh();
        const next = await chunks.next();
        waiting = false;
        if (next.done === true) break;
        yield next.value as Uint8Array;
      }
    } catch (error) {
      throw silence ?? new Failure('interrupted', 'The connection broke during the upload', { cause: error });
    } finally {
      clearTimeout(timer);
      await chunks.return?.();
    }
    if (!request.complete) throw silence ?? new Failure('interrupted', 'The upload ended before its end');
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
    request.on('error', () => undefined); // the client closing its connection now is what is waited for
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
