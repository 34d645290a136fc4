import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { after } from 'node:test';
import { Lanes } from '../../lanes/lanes.ts';
import { silentLog, type Log } from '../../lib/log.ts';
import { Failure } from '../../model/failure.ts';
import type { Position } from '../../model/relationship.ts';
import { openAuthority, type Authority } from '../../security/authority.ts';
import { Enrolment } from '../../security/enrolment.ts';
import type { Peer, PeerBook } from '../../security/peer.ts';
import {
  DIGEST_BYTES,
  type BlockQuestion,
  type LogName,
  type PrepareReplica,
  type ReplicaEndpoint,
  type ReplicaStatus,
  type TakeOver,
} from '../endpoint.ts';
import { HttpsEndpoint, type HttpsEndpointOptions } from './client.ts';
import { PeerServer } from './server.ts';

export class MemoryPeers implements PeerBook {
  readonly #peers = new Map<string, Peer>();
  list(): readonly Peer[] {
    return [...this.#peers.values()];
  }
  get(name: string): Peer | undefined {
    return this.#peers.get(name);
  }
  add(peer: Peer): void {
    this.#peers.set(peer.name, peer);
  }
  remove(name: string): void {
    this.#peers.delete(name);
  }
}

export const POSITION: Position = { epoch: 1, sequence: 7, state: 'ab'.repeat(16) };
export const LOG: LogName = { sequence: 8, logId: '0123456789abcdef'.repeat(2) };

/** A replica that remembers what it was asked; each method can be replaced by the test. */
export class MemoryReplica implements ReplicaEndpoint {
  readonly asked: unknown[] = [];
  readonly received: Uint8Array[] = [];
  readonly answer: ReplicaStatus = {
    id: 'r1',
    role: 'replica',
    state: 'Replicating',
    epoch: 1,
    received: POSITION,
    applied: POSITION,
    vmRunning: false,
  };

  get size(): number {
    return this.received.reduce((sum, part) => sum + part.length, 0);
  }

  #note(...what: unknown[]): Promise<ReplicaStatus> {
    this.asked.push(what);
    return Promise.resolve(this.answer);
  }
  prepare = (request: PrepareReplica): Promise<ReplicaStatus> => this.#note('prepare', request);
  status = (id: string): Promise<ReplicaStatus> => this.#note('status', id);
  durableOffset = async (id: string, log: LogName): Promise<number> => {
    await this.#note('durableOffset', id, log);
    return this.size;
  };
  put = async (
    id: string,
    log: LogName,
    offset: number,
    body: AsyncIterable<Uint8Array>,
    _signal?: AbortSignal,
  ): Promise<ReplicaStatus> => {
    if (offset !== this.size) throw new Failure('bad-log', `have ${this.size}, got ${offset}`);
    for await (const chunk of body) this.received.push(Buffer.from(chunk));
    return this.#note('put', id, log, offset);
  };
  confirm = (...all: [string, Position, number]): Promise<ReplicaStatus> => this.#note('confirm', ...all);
  digests = async (id: string, question: BlockQuestion): Promise<Uint8Array> => {
    await this.#note('digests', id, question);
    return new Uint8Array(question.count * DIGEST_BYTES).fill(question.from);
  };
  takeOver = (id: string, request: TakeOver): Promise<ReplicaStatus> => this.#note('takeOver', id, request);
  remove = async (id: string, options: { keepDisks: boolean }): Promise<void> => {
    await this.#note('remove', id, options);
  };
}

/** All servers of a test's process end their connections in one thread: another for each would cost more than the tests. */
export const thread = new Lanes(1);
after(() => thread.close());

/** A host of a test: own identity, own peers, listening on loopback. */
export interface TestHost {
  readonly name: string;
  readonly authority: Authority;
  readonly peers: MemoryPeers;
  readonly enrolment: Enrolment;
  readonly replica: MemoryReplica;
  readonly server: PeerServer;
  readonly address: string;
  /** As which peer the replica was asked, last. */
  askedAs: string | undefined;
  /** This host as an entry of another's book. */
  asPeer(overrides?: Partial<Peer>): Peer;
  /** An endpoint from here to that host, closed with this one. */
  to(host: TestHost, options?: Partial<HttpsEndpointOptions>): HttpsEndpoint;
}

/** Starts hosts for one test; `close` ends everything they started. */
export class Loopback {
  readonly #endings: (() => Promise<void>)[] = [];

  async directory(): Promise<string> {
    const directory = await mkdtemp(path(tmpdir(), 'understudy-https-'));
    this.#endings.push(() => rm(directory, { recursive: true }));
    return directory;
  }

  async host(
    name: string,
    options: { log?: Log; silenceMs?: number; now?: () => number; wires?: readonly number[] } = {},
  ): Promise<TestHost> {
    const authority = await openAuthority(await this.directory(), {
      hostName: name,
      addresses: [],
      ...(options.now === undefined ? {} : { now: options.now }),
    });
    const peers = new MemoryPeers();
    const replica = new MemoryReplica();
    const port = await freePort();
    const address = `127.0.0.1:${port}`;
    const enrolment = new Enrolment({ authority, address, peers });
    const server = await PeerServer.listen({
      host: '127.0.0.1',
      port,
      authority,
      peers,
      enrolment,
      version: '0.1.0',
      thread,
      log: options.log ?? silentLog(),
      endpoint: (peerName) => {
        host.askedAs = peerName;
        return replica;
      },
      ...(options.silenceMs === undefined ? {} : { silenceMs: options.silenceMs }),
      ...(options.wires === undefined ? {} : { wires: options.wires }),
    });
    this.#endings.push(() => server.close());
    const endings = this.#endings;
    const host: TestHost = {
      name,
      authority,
      peers,
      enrolment,
      replica,
      server,
      address,
      askedAs: undefined,
      asPeer: (overrides) => ({
        name,
        address,
        caCertificate: authority.caCertificate,
        caFingerprint: authority.caFingerprint,
        ...overrides,
      }),
      to(other, more) {
        const endpoint = new HttpsEndpoint({ authority, peer: other.asPeer(), connectMs: 2000, ...more });
        endings.push(() => endpoint.close());
        return endpoint;
      },
    };
    return host;
  }

  /** Two hosts that know each other. */
  async pair(options: { silenceMs?: number } = {}): Promise<[TestHost, TestHost]> {
    const [a, b] = [await this.host('host-a', options), await this.host('host-b', options)];
    a.peers.add(b.asPeer());
    b.peers.add(a.asPeer());
    return [a, b];
  }

  /** A TCP relay to `address`, whose connections, or the newest of them, can be cut, or die without a word: new ones go through. */
  async relay(
    address: string,
  ): Promise<{ address: string; cut(count?: number): void; die(count?: number): void; readonly open: number }> {
    const port = Number(address.split(':')[1]);
    const sockets = new Set<Socket>();
    const relay = createServer((from) => {
      const to = connect(port, '127.0.0.1');
      for (const [socket, other] of [
        [from, to],
        [to, from],
      ] as const) {
        sockets.add(socket);
        socket.on('error', () => other.destroy());
        socket.on('close', () => sockets.delete(socket));
        socket.pipe(other);
      }
    });
    relay.listen(0, '127.0.0.1');
    await once(relay, 'listening');
    const newest = (count: number): Socket[] => [...sockets].slice(-2 * count);
    const cut = (count = Infinity): void => {
      for (const socket of newest(count)) socket.resetAndDestroy();
    };
    const die = (count = Infinity): void => {
      for (const socket of newest(count)) socket.unpipe().pause();
    };
    this.#endings.push(async () => {
      cut();
      relay.close();
      await once(relay, 'close');
    });
    return {
      address: `127.0.0.1:${(relay.address() as AddressInfo).port}`,
      cut,
      die,
      get open() {
        return sockets.size / 2;
      },
    };
  }

  async close(): Promise<void> {
    for (const end of this.#endings.reverse()) await end();
  }
}

/** A port that was free a moment ago: the address must be known before the server listens, for tokens name it. */
async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

export function isFailure(code: string, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    if (!(error instanceof Failure) || error.code !== code || (message !== undefined && !message.test(error.message))) {
      throw error; // shows what came instead
    }
    return true;
  };
}
