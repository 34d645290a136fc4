import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Log } from '../../lib/log.ts';
import { asFailure, Failure } from '../../model/failure.ts';
import type { Authority } from '../../security/authority.ts';
import { EnrolmentRequestShape, type Enrolment } from '../../security/enrolment.ts';
import type { PeerBook } from '../../security/peer.ts';
import type { ReplicaEndpoint } from '../endpoint.ts';
import { Door, type Visitor } from './door.ts';
import { Exchange } from './exchange.ts';
import { read, type Hello } from './messages.ts';
import { serve, type Answer } from './routes.ts';
import { requireWire } from './wire-version.ts';
import { ENROL, HELLO, SILENCE_MS, WIRE_HEADER, WIRES } from './wire.ts';

export interface PeerServerOptions {
  /** Address to listen on; `::` for all. */
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
  readonly authority: Authority;
  readonly peers: PeerBook;
  readonly enrolment: Enrolment;
  /** The replica side of this host as that peer may see it. */
  readonly endpoint: (peerName: string) => ReplicaEndpoint;
  /** Version of the software, told by `hello`. */
  readonly version: string;
  readonly log: Log;
  /** How long an upload may bring no byte before it is given up, ms; 60 s unless told. */
  readonly silenceMs?: number;
  /** Versions of the wire that it speaks; those of this build unless told (by a test of crossed versions). */
  readonly wires?: readonly number[];
}

/**
 * What peers talk to: HTTP/1.1 over TLS 1.3 on one port; see PROTOCOL.md.
 *
 * It is node:http on sockets that the `Door` let in, not a framework: a stranger's socket never meets an HTTP parser,
 * bodies are streams that nobody reads ahead, and a table of nine routes needs no router.
 */
export class PeerServer {
  readonly #options: PeerServerOptions;
  readonly #door: Door;
  readonly #http: Server;
  readonly #wires: readonly number[];

  private constructor(options: PeerServerOptions) {
    this.#options = options;
    this.#wires = options.wires ?? WIRES;
    this.#http = createServer({ keepAliveTimeout: 75_000, requestTimeout: 0, headersTimeout: 0, noDelay: true });
    this.#http.timeout = 0; // a slow link is no reason to hang up; silence is, and `Exchange` and TCP watch for it
    this.#http.on('request', (request, response) => void this.#handle(request, response));
    this.#door = new Door({
      authority: options.authority,
      peers: options.peers,
      enrolment: options.enrolment,
      log: options.log,
      letIn: (socket) => this.#http.emit('connection', socket),
    });
  }

  /** Failure `bad-config` when the address can't be listened on. */
  static async listen(options: PeerServerOptions): Promise<PeerServer> {
    const server = new PeerServer(options);
    const { host, port } = options;
    server.#door.server.listen({ host, port });
    try {
      await once(server.#door.server, 'listening');
    } catch (error) {
      throw new Failure('bad-config', `Can't listen on ${host} port ${port}: ${asFailure(error).message}`, {
        cause: error,
        hint: 'Another program may use the port: see `ss -ltnp`; choose another one in the configuration.',
      });
    }
    return server;
  }

  /** The port that it listens on. */
  get port(): number {
    return (this.#door.server.address() as AddressInfo).port;
  }

  /**
   * To be called when a peer was removed or changed: its connections are cut now. (New connections and new requests
   * always ask the book anyway.)
   */
  peersChanged(): void {
    this.#door.expelRemoved();
  }

  /** Stops listening and cuts all connections; requests in progress see their signal abort. */
  async close(): Promise<void> {
    const closed = once(this.#door.server, 'close');
    this.#door.server.close();
    this.#door.closeAll();
    await closed;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const visitor = this.#door.visitor(request.socket as TLSSocket);
    if (visitor === undefined) {
      request.socket.destroy();
      return;
    }
    const exchange = new Exchange(request, response, this.#options.silenceMs ?? SILENCE_MS);
    try {
      const answer = await this.#answer(request, exchange, visitor);
      if (answer instanceof Uint8Array) exchange.answer(200, 'application/octet-stream', answer);
      else exchange.answer(200, 'application/json', JSON.stringify(answer ?? {}));
    } catch (error) {
      const failure = this.#tellable(error, request, visitor);
      exchange.answer(failure.status, 'application/json', JSON.stringify(failure));
    }
  }

  async #answer(request: IncomingMessage, exchange: Exchange, visitor: Visitor): Promise<Answer> {
    const method = request.method ?? '';
    const { pathname, searchParams } = new URL(request.url ?? '/', 'https://peer.invalid');
    if (visitor.kind === 'stranger') {
      if (`${method} ${pathname}` !== `POST ${ENROL}`) throw new Failure('peer-refused', 'Strangers may only enrol');
      this.#checkWire(request);
      return this.#enrol(await exchange.json());
    }
    if (`${method} ${pathname}` === `GET ${HELLO}`) return this.#hello();
    this.#checkWire(request);
    const [, wire, collection, ...path] = pathname.split('/');
    if (wire !== 'v0' || collection !== 'replicas' || path.length === 0) {
      throw new Failure('not-found', `There is nothing at ${pathname.slice(0, 200)}`);
    }
    return serve(
      {
        method,
        path: path.map(decode),
        query: Object.fromEntries(searchParams),
        signal: exchange.signal,
        json: () => exchange.json(),
        upload: () => exchange.upload(),
      },
      this.#options.endpoint(visitor.name),
    );
  }

  #checkWire(request: IncomingMessage): void {
    requireWire(request.headers[WIRE_HEADER]?.toString(), this.#wires);
  }

  #hello(): Hello {
    const { authority, version } = this.#options;
    return { name: authority.name, version, wires: this.#wires, time: Date.now() };
  }

  #enrol(body: unknown): Answer {
    const introduced = read(EnrolmentRequestShape, body, 'request to enrol');
    const answer = this.#options.enrolment.accept(introduced);
    this.#options.log.info({ peer: introduced.name, address: introduced.address }, 'paired with a new peer');
    return answer;
  }

  /** What the other end may know of an error: Failures as they are, bugs as a reference into this host's log. */
  #tellable(error: unknown, request: IncomingMessage, visitor: Visitor): Failure {
    const failure = asFailure(error);
    const about = { peer: visitor.kind === 'peer' ? visitor.name : 'stranger', request: request.url };
    if (error instanceof Failure || failure.code !== 'internal') {
      this.#options.log.info({ ...about, code: failure.code }, `request failed: ${failure.message}`);
      return failure;
    }
    const reference = randomBytes(4).toString('hex');
    this.#options.log.error({ ...about, reference, err: error }, 'request failed by a bug');
    return new Failure('internal', `${this.#options.authority.name} failed; its log says why (reference ${reference})`);
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (error) {
    throw new Failure('bad-request', 'The path is not well-formed', { cause: error });
  }
}
