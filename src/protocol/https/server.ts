import { randomBytes } from 'node:crypto';
import { sleep } from '../../lib/clock.ts';
import type { Log } from '../../lib/log.ts';
import { Lanes } from '../../lanes/lanes.ts';
import { asFailure, Failure } from '../../model/failure.ts';
import type { Authority } from '../../security/authority.ts';
import { EnrolmentRequestShape, type Enrolment } from '../../security/enrolment.ts';
import type { PeerBook } from '../../security/peer.ts';
import type { ReplicaEndpoint } from '../endpoint.ts';
import { isWelcome } from './door.ts';
import { read, type Hello } from './messages.ts';
import { peersTask, RemoteRequest } from './remote-request.ts';
import { serve, type Answer } from './routes.ts';
import type { Answered, Arrived, Guests, Listening, NewGuests, Question, Told } from './threads.ts';
import { Uploads } from './uploads.ts';
import { requireWire } from './wire-version.ts';
import { ENROL, FORMER_HELLO, HELLO, SILENCE_MS, WIRES } from './wire.ts';

/** When the thread that serves died, another takes its place after this time, ms. */
const RESTART_MS = 1000;

export interface PeerServerOptions {
  /** Address to listen on; `::` for all. */
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
  readonly authority: Authority;
  readonly peers: PeerBook;
  readonly enrolment: Enrolment;
  /** The replica side of this host as that peer may see it. Bodies of its `put` are an `Arrival`. */
  readonly endpoint: (peerName: string) => ReplicaEndpoint;
  /** Version of the software, told by `hello`. */
  readonly version: string;
  readonly log: Log;
  /** How long an upload may bring no byte before it is given up, ms; 60 s unless told. */
  readonly silenceMs?: number;
  /** Versions of the wire that it speaks; those of this build unless told (by a test of crossed versions). */
  readonly wires?: readonly number[];
  /** One lane, in which connections end; one of its own unless told (servers of a test share it). */
  readonly thread?: Lanes;
}

let servers = 0;

/**
 * What peers talk to; see PROTOCOL.md. Connections end in a thread of their own, and with them the bulk work; here is decided
 * who comes in and what each request is answered.
 */
export class PeerServer {
  readonly #options: PeerServerOptions;
  readonly #thread: Lanes;
  readonly #number = ++servers;
  readonly #requests = new Map<number, RemoteRequest>();
  readonly #uploads = new Uploads();
  readonly #closing = new AbortController();
  readonly #wires: readonly number[];
  #ended: Promise<void> = Promise.resolve();
  #port: number;

  private constructor(options: PeerServerOptions) {
    this.#options = options;
    this.#wires = options.wires ?? WIRES;
    this.#thread = options.thread ?? new Lanes(1);
    this.#port = options.port;
  }

  /** Failure `bad-config` when the address can't be listened on. */
  static async listen(options: PeerServerOptions): Promise<PeerServer> {
    const server = new PeerServer(options);
    const listening = Promise.withResolvers<void>();
    const first = server.#listen(listening.resolve);
    first.catch(listening.reject);
    try {
      await listening.promise;
    } catch (error) {
      await server.close();
      throw error;
    }
    server.#ended = server.#goOn(first);
    return server;
  }

  /** The port that it listens on. */
  get port(): number {
    return this.#port;
  }

  /**
   * To be called when a peer was removed or changed: its connections are cut now. (New connections and new requests
   * always ask the book anyway.)
   */
  peersChanged(): void {
    const guests: NewGuests = { server: this.#number, guests: this.#guests() };
    this.#thread
      .run(peersTask('setGuests'), guests)
      .catch((error: unknown) =>
        this.#options.log.warn({ err: error }, 'the serving thread was not told of the peers'),
      );
  }

  /** Stops listening and cuts all connections; requests in progress see their signal abort. */
  async close(): Promise<void> {
    this.#closing.abort(new Failure('interrupted', 'the server is being closed'));
    await this.#ended;
    for (const request of this.#requests.values()) request.gone();
    if (this.#options.thread === undefined) await this.#thread.close();
  }

  /** Resolves when it was closed. Throws when the thread died. */
  async #listen(onListening: () => void): Promise<void> {
    const { host, silenceMs = SILENCE_MS } = this.#options;
    const options: Listening = { server: this.#number, host, port: this.#port, silenceMs };
    try {
      await this.#thread.run(peersTask('listen'), options, {
        signal: this.#closing.signal,
        onTold: (told) => this.#hear(told as Told, onListening),
        onAsked: (question) => this.#answerThread(question as Question),
      });
    } catch (error) {
      if (!this.#closing.signal.aborted) throw error;
    }
  }

  /** Starts again what died, until it is closed. */
  async #goOn(first: Promise<void>): Promise<void> {
    for (let run = first; ; run = this.#listen(() => undefined)) {
      try {
        await run;
        return;
      } catch (error) {
        this.#options.log.error({ err: error }, 'the thread that serves peers failed; another takes its place');
        for (const request of this.#requests.values()) request.gone();
        await sleep(RESTART_MS, this.#closing.signal).catch(() => undefined);
      }
    }
  }

  #hear(told: Told, onListening: () => void): void {
    if (told.kind === 'log') this.#options.log[told.level](told.about, told.text);
    else if (told.kind === 'gone') this.#requests.get(told.id)?.gone();
    else {
      this.#port = told.port;
      onListening();
    }
  }

  async #answerThread(question: Question): Promise<Guests | Answered> {
    return question.kind === 'guests' ? this.#guests() : await this.#handle(question.request);
  }

  #guests(): Guests {
    const { authority, peers, enrolment } = this.#options;
    const { caCertificate, credentials } = authority;
    return { caCertificate, credentials, peers: peers.list(), enrolmentOpen: enrolment.isOpen };
  }

  async #handle(arrived: Arrived): Promise<Answered> {
    const { id, visitor } = arrived;
    const peer = visitor.kind === 'peer' ? visitor.name : '';
    const request = new RemoteRequest(this.#thread, { server: this.#number, request: id }, this.#uploads, peer);
    this.#requests.set(id, request);
    try {
      const answer = await this.#answer(arrived, request);
      request.answered();
      if (answer instanceof Uint8Array) return { status: 200, type: 'application/octet-stream', body: answer };
      return { status: 200, type: 'application/json', body: JSON.stringify(answer ?? {}) };
    } catch (error) {
      const failure = this.#tellable(error, arrived);
      request.answered(failure);
      return { status: failure.status, type: 'application/json', body: JSON.stringify(failure) };
    } finally {
      this.#requests.delete(id);
    }
  }

  async #answer(arrived: Arrived, request: RemoteRequest): Promise<Answer> {
    const { method, visitor, wire } = arrived;
    const { pathname, searchParams } = new URL(arrived.url, 'https://peer.invalid');
    if (visitor.kind === 'stranger') {
      if (`${method} ${pathname}` !== `POST ${ENROL}`) throw new Failure('peer-refused', 'Strangers may only enrol');
      requireWire(wire, this.#wires);
      return this.#enrol(await request.json());
    }
    if (!isWelcome(visitor, this.#guests())) throw new Failure('peer-refused', `${visitor.name} is no peer any more`);
    if (method === 'GET' && (pathname === HELLO || pathname === FORMER_HELLO)) return this.#hello();
    requireWire(wire, this.#wires);
    const [, root, collection, ...path] = pathname.split('/');
    if (root !== 'v1' || collection !== 'replicas' || path.length === 0) {
      throw new Failure('not-found', `There is nothing at ${pathname.slice(0, 200)}`);
    }
    return serve(
      {
        method,
        path: path.map(decode),
        query: Object.fromEntries(searchParams),
        signal: request.signal,
        json: () => request.json(),
        upload: (strands) => request.upload(strands),
        join: (upload) => request.join(upload),
      },
      this.#options.endpoint(visitor.name),
    );
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
  #tellable(error: unknown, { url, visitor }: Arrived): Failure {
    const failure = asFailure(error);
    const about = { peer: visitor.kind === 'peer' ? visitor.name : 'stranger', request: url };
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
