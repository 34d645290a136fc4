import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { LaneContext } from '../../lanes/context.ts';
import { asFailure, Failure } from '../../model/failure.ts';
import { Door } from './door.ts';
import { Exchange } from './exchange.ts';
import { Strands } from './strands.ts';
import type { Answered, Arrived, BodyOf, Guests, Listening, LogLevel, Question, Told, UploadOf } from './threads.ts';
import { WIRE_HEADER } from './wire.ts';

/**
 * The end of peers' connections: HTTP/1.1 over TLS 1.3 on one port, in a thread of its own; see PROTOCOL.md.
 *
 * It is node:http on sockets that the `Door` let in, not a framework: a stranger's socket never meets an HTTP parser,
 * bodies are streams that nobody reads ahead, and what a request means is decided in another thread.
 */
export class Listener {
  readonly #options: Listening;
  readonly #context: LaneContext;
  readonly #door: Door;
  readonly #http: Server;
  readonly #exchanges = new Map<number, Exchange>();
  /** Uploads under way by several strands, by their first request. */
  readonly #uploads = new Map<number, Strands>();
  #requests = 0;

  constructor(options: Listening, context: LaneContext) {
    this.#options = options;
    this.#context = context;
    this.#http = createServer({ keepAliveTimeout: 75_000, requestTimeout: 0, headersTimeout: 0, noDelay: true });
    this.#http.timeout = 0; // a slow link is no reason to hang up; silence is, and `Exchange` and TCP watch for it
    this.#http.on('request', (request, response) => void this.#handle(request, response));
    this.#door = new Door({
      guests: () => this.#ask<Guests>({ kind: 'guests' }),
      letIn: (socket) => this.#http.emit('connection', socket),
      log: (level, about, text) => this.#log(level, about, text),
    });
  }

  /** Gives the port. Failure `bad-config` when the address can't be listened on. */
  async listen(): Promise<number> {
    const { host, port } = this.#options;
    try {
      return await this.#door.listen(host, port);
    } catch (error) {
      throw new Failure('bad-config', `Can't listen on ${host} port ${port}: ${asFailure(error).message}`, {
        cause: error,
        hint: 'Another program may use the port: see `ss -ltnp`; choose another one in the configuration.',
      });
    }
  }

  setGuests(guests: Guests): void {
    this.#door.setGuests(guests);
  }

  /** A request that isn't answered yet. Failure `interrupted` when it is. */
  exchange(id: number): Exchange {
    const exchange = this.#exchanges.get(id);
    if (exchange === undefined) throw new Failure('interrupted', 'The connection of the request broke');
    return exchange;
  }

  /** The bytes of an upload, from all its strands; the same each time it is asked. */
  bytes({ request, upload }: BodyOf): AsyncGenerator<readonly Uint8Array[], void, void> {
    return upload === undefined ? this.exchange(request).body() : this.#strands(upload).bytes;
  }

  /** Takes the body of a request into an upload. Resolves when nothing more is wanted of it. */
  async join(request: number, upload: UploadOf): Promise<void> {
    await this.#strands(upload).join(this.exchange(request).strand());
  }

  /** Stops listening and cuts all connections. */
  async close(): Promise<void> {
    await this.#door.close();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const visitor = this.#door.visitor(request.socket as TLSSocket);
    if (visitor === undefined) {
      request.socket.destroy();
      return;
    }
    const id = ++this.#requests;
    const exchange = new Exchange(request, response, this.#options.silenceMs);
    exchange.signal.addEventListener('abort', () => this.#tell({ kind: 'gone', id }), { once: true });
    this.#exchanges.set(id, exchange);
    const wire = request.headers[WIRE_HEADER]?.toString();
    const arrived: Arrived = {
      id,
      visitor,
      method: request.method ?? '',
      url: request.url ?? '/',
      ...(wire === undefined ? {} : { wire }),
    };
    try {
      const { status, type, body } = await this.#ask<Answered>({ kind: 'request', request: arrived });
      exchange.answer(status, type, body);
    } catch (error) {
      this.#log('warn', { reason: asFailure(error).message }, 'a request could not be answered');
      request.socket.destroy();
    } finally {
      this.#exchanges.delete(id);
      this.#uploads.get(id)?.close();
      this.#uploads.delete(id);
    }
  }

  #strands({ request, offset }: UploadOf): Strands {
    const known = this.#uploads.get(request);
    if (known !== undefined) return known;
    const first = this.exchange(request).strand();
    const strands = new Strands(offset, this.#options.silenceMs);
    this.#uploads.set(request, strands);
    void strands.join(first);
    return strands;
  }

  #log(level: LogLevel, about: object, text: string): void {
    this.#tell({ kind: 'log', level, about, text });
  }

  #tell(told: Told): void {
    this.#context.tell(told);
  }

  #ask<T>(question: Question): Promise<T> {
    return this.#context.ask<T>(question);
  }
}
