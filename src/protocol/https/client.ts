import { setTimeout as delay } from 'node:timers/promises';
import { Client, errors, Pool } from 'undici';
import { VERSION } from '../../lib/version.ts';
import { workerModule, type Lanes } from '../../lanes/lanes.ts';
import { Failure, type FailureCode } from '../../model/failure.ts';
import type { Position } from '../../model/relationship.ts';
import { requirePeer } from '../../security/authenticate.ts';
import type { Authority } from '../../security/authority.ts';
import type { Peer } from '../../security/peer.ts';
import {
  DIGEST_BYTES,
  type BlockQuestion,
  type LogBody,
  type LogFile,
  type LogName,
  type PageQuestion,
  type PrepareReplica,
  type ReplicaEndpoint,
  type ReplicaStatus,
  type TakeOver,
  type VerifyAnswer,
  type VerifyQuestion,
} from '../endpoint.ts';
import { request, until, type Ask } from './ask.ts';
import { dialer, type Dial } from './dial.ts';
import { DOUBT_PATIENCE_MS, isDead } from './doubt.ts';
import {
  DurableShape,
  HelloShape,
  read,
  StatusShape,
  VerifyAnswerShape,
  writtenQuestion,
  writtenVerification,
  type Hello,
} from './messages.ts';
import { nowFound, type LinkAsFound } from './link-as-found.ts';
import { failureOf, jsonOf, receive, type Received } from './receive.ts';
import type { Pace } from './pace.ts';
import { plait } from './plait.ts';
import { Sending } from './sending.ts';
import { Silence } from './silence.ts';
import type { Uploaded, UploadInput } from './upload.worker.ts';
import { commonWire } from './wire-version.ts';
import { DOUBT_AFTER_SIGNS, HELLO, paths, SIGNS_OF_LIFE, SILENCE_MS, WIRES } from './wire.ts';

/** Longer logs are sent by a lane: below, its own connection costs more than the bytes. */
const FOR_LANE = 1024 * 1024;
const UPLOAD = { module: workerModule(import.meta.url, './upload'), name: 'upload' };

export interface HttpsEndpointOptions {
  readonly authority: Pick<Authority, 'name' | 'credentials'>;
  readonly peer: Peer;
  /** For TCP and TLS together, ms; 5 s unless told. */
  readonly connectMs?: number;
  /** A request fails with `timeout` after this long without a sign of life of the peer, ms; 60 s unless told. */
  readonly silenceMs?: number;
  /** Where long logs are sent; left out: all is done here. */
  readonly lanes?: Lanes;
  /** Versions of the wire that this side speaks; those of this build unless told (by a test of crossed versions). */
  readonly wires?: readonly number[];
}

export interface PeerHello extends Hello {
  /** How far the peer's clock is ahead of ours, ms; right to within half of `roundTripMs`. */
  readonly skewMs: number;
  readonly roundTripMs: number;
}

/** After these the peer may be another version when it is asked next. */
const AGREE_AGAIN: ReadonlySet<FailureCode> = new Set(['unreachable', 'interrupted', 'timeout', 'format-unknown']);

/**
 * The Replica server of a peer, over the network. Connections are kept and shared; each request in progress has its own.
 * Besides the port's Failures every call may throw `unreachable`, `interrupted`, `timeout` (all of them: try again),
 * `peer-identity` (the other end isn't the peer), `peer-refused` (it doesn't take us for its peer), `format-unknown`.
 */
export class HttpsEndpoint implements ReplicaEndpoint {
  readonly #options: HttpsEndpointOptions;
  readonly #origin: string;
  readonly #pool: Pool;
  /** When the newest connection was there. */
  #connectedAt = 0;
  #link: LinkAsFound = { roundTripMs: Number.POSITIVE_INFINITY, strands: 1 };
  /** The version of the wire that was agreed on; asked again after every break: the peer may have been upgraded. */
  #wire: Promise<number> | undefined;

  constructor(options: HttpsEndpointOptions) {
    this.#options = options;
    this.#origin = `https://${options.peer.name}`;
    this.#pool = new Pool(this.#origin, this.#connection());
  }

  /** Who is there, with which versions, and how far the clocks are apart. */
  async hello(signal?: AbortSignal): Promise<PeerHello> {
    const hello = await this.#hello(signal);
    this.#wire = Promise.resolve(this.#choose(hello));
    return hello;
  }

  async #hello(signal?: AbortSignal): Promise<PeerHello> {
    const asked = performance.now();
    const answer = jsonOf(await this.#exchange({ method: 'GET', path: HELLO, ...until(signal) }));
    const hello = read(HelloShape, answer, 'hello', 'format-unknown');
    const roundTripMs = performance.now() - Math.max(asked, this.#connectedAt);
    this.#link = { ...this.#link, roundTripMs: nowFound(this.#link.roundTripMs, roundTripMs) };
    return { ...hello, skewMs: Math.round(hello.time - (Date.now() - roundTripMs / 2)), roundTripMs };
  }

  prepare(request: PrepareReplica): Promise<ReplicaStatus> {
    return this.#status({ method: 'PUT', path: paths.replica(request.id), json: request });
  }

  status(id: string, signal?: AbortSignal): Promise<ReplicaStatus> {
    return this.#status({ method: 'GET', path: paths.replica(id), ...until(signal) });
  }

  async durableOffset(id: string, log: LogName, signal?: AbortSignal): Promise<number> {
    const answer = jsonOf(await this.#ask({ method: 'GET', path: paths.log(id, log), ...until(signal) }));
    return read(DurableShape, answer, 'durable offset', 'format-unknown').durable;
  }

  put(id: string, log: LogName, offset: number, body: LogBody, signal?: AbortSignal): Promise<ReplicaStatus> {
    const { lanes } = this.#options;
    const { file } = body;
    if (lanes !== undefined && file !== undefined && file.expected > FOR_LANE) {
      return this.#putByLane(lanes, file, { id, log, offset }, signal);
    }
    return this.#status({
      method: 'PUT',
      path: paths.log(id, log),
      query: { offset },
      upload: body,
      ...until(signal),
    });
  }

  confirm(id: string, position: Position, instant: number, signal?: AbortSignal): Promise<ReplicaStatus> {
    const json = { position, instant };
    return this.#status({ method: 'POST', path: paths.confirm(id), json, ...until(signal) });
  }

  async digests(id: string, { target, ...query }: BlockQuestion, signal?: AbortSignal): Promise<Uint8Array> {
    const path = paths.digests(id, target);
    const { count } = query;
    const { body } = await this.#ask({ method: 'GET', path, query, ...until(signal) });
    if (body.length > count * DIGEST_BYTES || body.length % DIGEST_BYTES !== 0) {
      throw new Failure(
        'format-unknown',
        `${this.#options.peer.name} answered ${count} digests with ${body.length} bytes`,
      );
    }
    return body;
  }

  async pageDigests(id: string, question: PageQuestion, signal?: AbortSignal): Promise<Uint8Array> {
    const json = writtenQuestion(question);
    return (await this.#ask({ method: 'POST', path: paths.pages(id), json, ...until(signal) })).body;
  }

  async verify(id: string, question: VerifyQuestion, signal?: AbortSignal): Promise<VerifyAnswer> {
    const json = writtenVerification(question);
    const answer = jsonOf(await this.#ask({ method: 'POST', path: paths.verify(id), json, ...until(signal) }));
    return read(VerifyAnswerShape, answer, 'comparison', 'format-unknown');
  }

  lease(id: string, seconds: number, signal?: AbortSignal): Promise<ReplicaStatus> {
    return this.#status({ method: 'POST', path: paths.lease(id), json: { seconds }, ...until(signal) });
  }

  takeOver(id: string, request: TakeOver): Promise<ReplicaStatus> {
    return this.#status({ method: 'POST', path: paths.takeOver(id), json: request });
  }

  /** As `put`, over as many connections as `pace` finds the link worth. @param tickMs see `Plait`. */
  async putByStrands(
    id: string,
    log: LogName,
    offset: number,
    body: AsyncIterable<Uint8Array>,
    { pace, tickMs, signal }: { readonly pace: Pace; readonly tickMs: number; readonly signal: AbortSignal },
  ): Promise<ReplicaStatus> {
    return await plait(
      { source: body, offset, pace, tickMs, signal },
      {
        first: (upload, strand, over) => {
          const query = { offset, upload };
          return this.#status({ method: 'PUT', path: paths.log(id, log), query, upload: strand, signal: over });
        },
        more: (upload, strand, over) =>
          this.#ask({ method: 'PUT', path: paths.strand(id, upload), upload: strand, signal: over }),
      },
    );
  }

  async #putByLane(
    lanes: Lanes,
    { path, expected, moreThan, taken }: LogFile,
    put: Pick<UploadInput, 'id' | 'log' | 'offset'>,
    signal: AbortSignal | undefined,
  ): Promise<ReplicaStatus> {
    const { lanes: _, authority, ...rest } = this.#options;
    const { name, credentials } = authority;
    const endpoint = { ...rest, authority: { name, credentials } };
    const input: UploadInput = { ...put, path, expected, link: this.#link, endpoint };
    const { status, link } = await lanes.run<Uploaded>(UPLOAD, input, {
      ...until(signal),
      onAsked: async (have) => await moreThan(have as number),
      onTold: (bytes) => taken(bytes as number),
    });
    this.#link = link;
    return status;
  }

  async remove(id: string, options: { keepDisks: boolean }): Promise<void> {
    await this.#ask({ method: 'DELETE', path: paths.replica(id), query: { keepDisks: options.keepDisks } });
  }

  /** Ends all connections; requests in progress fail with `interrupted`. */
  async close(): Promise<void> {
    await this.#pool.destroy();
  }

  async #status(ask: Ask): Promise<ReplicaStatus> {
    return read(StatusShape, jsonOf(await this.#ask(ask)), 'status of a replica', 'format-unknown');
  }

  async #ask(ask: Ask): Promise<Received> {
    ask.signal?.throwIfAborted();
    try {
      return await this.#exchange(ask, await orAbort(this.#agreed(), ask.signal));
    } catch (error) {
      if (!(error instanceof Failure) || AGREE_AGAIN.has(error.code)) this.#wire = undefined;
      throw error;
    }
  }

  #agreed(): Promise<number> {
    if (this.#wire !== undefined) return this.#wire;
    const wire = this.#agree();
    wire.catch(() => {
      if (this.#wire === wire) this.#wire = undefined;
    });
    return (this.#wire = wire);
  }

  async #agree(): Promise<number> {
    return this.#choose(await this.#hello());
  }

  #choose(hello: Hello): number {
    const { authority, wires = WIRES } = this.#options;
    return commonWire({ name: authority.name, version: VERSION, wires }, hello);
  }

  async #exchange(ask: Ask, wire?: number): Promise<Received> {
    const { peer } = this.#options;
    ask.signal?.throwIfAborted();
    const silenceMs = this.#options.silenceMs ?? SILENCE_MS;
    const giveUp = new AbortController();
    const silence = new Silence(
      {
        ms: (DOUBT_AFTER_SIGNS * silenceMs) / SIGNS_OF_LIFE,
        act: () =>
          void isDead(silence, (over) => this.#answersAnew(over)).then((dead) => {
            if (!dead) return;
            const text = `The connection to ${peer.name} (${peer.address}) is dead: it answers on another`;
            giveUp.abort(new Failure('interrupted', text));
          }),
      },
      {
        ms: silenceMs,
        act: () => giveUp.abort(new Failure('timeout', `${peer.name} gave no sign of life for ${silenceMs / 1000} s`)),
      },
    );
    const sending = ask.upload === undefined ? undefined : new Sending(ask.upload, silence);
    let received: Received;
    try {
      received = await receive(this.#pool, {
        ...request(ask, wire, sending),
        signal: ask.signal === undefined ? giveUp.signal : AbortSignal.any([giveUp.signal, ask.signal]),
        heard: () => silence.heard(),
      });
    } catch (error) {
      if (sending?.sourceError !== undefined) throw sending.sourceError.error;
      ask.signal?.throwIfAborted();
      throw await this.#explain(error);
    } finally {
      silence.stop();
      sending?.stop();
    }
    if (received.status !== 200) throw failureOf(received, peer.name);
    return received;
  }

  /** Whether the peer answers on a connection of its own. */
  async #answersAnew(over: AbortSignal): Promise<boolean> {
    const client = new Client(this.#origin, this.#connection(DOUBT_PATIENCE_MS));
    try {
      const signal = AbortSignal.any([over, AbortSignal.timeout(DOUBT_PATIENCE_MS)]);
      await receive(client, { ...request({ method: 'GET', path: HELLO }), signal, heard: () => undefined });
      return true;
    } catch {
      return false; // why is told by the request that is in doubt
    } finally {
      await client.destroy();
    }
  }

  async #explain(error: unknown): Promise<Failure> {
    const { peer } = this.#options;
    if (error instanceof Failure) return error;
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof errors.HTTPParserError) {
      return new Failure('format-unknown', `${peer.name} (${peer.address}) doesn't speak HTTP: ${message}`, {
        cause: error,
      });
    }
    if (!(error instanceof errors.ClientDestroyedError) && (await this.#isRefused())) {
      return new Failure('peer-refused', `${peer.name} (${peer.address}) hangs up on this host without a word`, {
        cause: error,
        hint: `Its log says why: not paired (any more), certificate expired, or another name. Otherwise pair the hosts again.`,
      });
    }
    return new Failure('interrupted', `The connection to ${peer.name} (${peer.address}) broke: ${message}`, {
      cause: error,
    });
  }

  /**
   * A refusal looks just like a connection that broke early: TLS 1.3 tells the client that it is through before the
   * server has looked at its certificate. `peer-refused` stops replication until a person acts, so it must be certain:
   * it is one if new connections, too, are taken and then closed without a word, twice.
   */
  async #isRefused(): Promise<boolean> {
    for (let attempt = 0; attempt < 2; attempt++) {
      const client = new Client(this.#origin, this.#connection());
      try {
        const signal = AbortSignal.timeout(this.#options.connectMs ?? 5000);
        await receive(client, { ...request({ method: 'GET', path: HELLO }), signal, heard: () => undefined });
        return false;
      } catch (error) {
        const isHungUp = error instanceof errors.SocketError || (error as NodeJS.ErrnoException).code === 'ECONNRESET';
        if (!isHungUp) return false;
        await delay(200);
      } finally {
        await client.destroy();
      }
    }
    return true;
  }

  #connection(connectMs?: number): Client.Options {
    return {
      connect: dialer(
        () => this.#dial(connectMs),
        () => (this.#connectedAt = performance.now()),
      ),
      allowH2: false,
      pipelining: 1,
      headersTimeout: 0, // `Silence` watches, and knows that 102 is a sign of life
      bodyTimeout: 0,
      keepAliveTimeout: 60_000, // longer than usual intervals, and below the server's 75 s, so that it isn't the server that hangs up
      keepAliveMaxTimeout: 60_000,
    };
  }

  #dial(connectMs = this.#options.connectMs ?? 5000): Dial {
    const { authority, peer } = this.#options;
    const { chain, key } = authority.credentials;
    return {
      name: peer.name,
      address: peer.address,
      servername: peer.name,
      timeoutMs: connectMs,
      identity: { ca: [peer.caCertificate], cert: chain, key, rejectUnauthorized: true },
      check: (socket) => requirePeer(socket.getPeerX509Certificate(), peer, Date.now()),
    };
  }
}

/** What many wait for, for one who may give up: throws the signal's reason then. */
async function orAbort<T>(shared: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await shared;
  const given = Promise.withResolvers<never>();
  const giveUp = (): void => given.reject(signal.reason);
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([shared, given.promise]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}
