/** The hosts that this one is paired with, kept in the store, and the way to each. */
import type { Lanes } from '../lanes/lanes.ts';
import { Wake } from '../lib/wake.ts';
import { Failure, type FailureCode } from '../model/failure.ts';
import type { ReplicaEndpoint } from '../protocol/endpoint.ts';
import { HttpsEndpoint, type PeerHello } from '../protocol/https/client.ts';
import type { Authority } from '../security/authority.ts';
import type { Peer, PeerBook } from '../security/peer.ts';
import type { Store } from '../store/store.ts';

/** The store as security's book of peers. */
export function peerBook(store: Store): PeerBook {
  return {
    list: () => store.peers(),
    get: (name) => store.peer(name),
    add: (peer) => store.putPeer(peer),
    remove: (name) => store.deletePeer(name),
  };
}

/** The peer said nothing: it can't be reached, or can't be talked to. Any other failure is an answer. */
const NO_ANSWER: ReadonlySet<FailureCode> = new Set([
  'unreachable',
  'interrupted',
  'timeout',
  'peer-identity',
  'peer-refused',
]);

/**
 * Connections to peers, made when first asked for and again when the peer's address or CA has changed. The first answer of a
 * peer that didn't answer before is told, so that nothing that waits for it waits longer.
 */
export class PeerEndpoints {
  readonly #authority: Authority;
  readonly #lanes: Lanes;
  readonly #book: PeerBook;
  readonly #onBack: (name: string) => void;
  readonly #known = new Map<string, { peer: Peer; endpoint: HttpsEndpoint }>();
  /** Peers that didn't answer when last asked; each with the call to whoever waits for its answer. */
  readonly #silent = new Map<string, Wake>();

  /** @param lanes where logs are sent. @param onBack told of a peer that answers again. */
  constructor(authority: Authority, lanes: Lanes, book: PeerBook, onBack: (name: string) => void) {
    this.#authority = authority;
    this.#lanes = lanes;
    this.#book = book;
    this.#onBack = onBack;
  }

  /** Who the peer says it is. Failures as those of `HttpsEndpoint`; `not-found` for a host that isn't paired. */
  async hello(name: string): Promise<PeerHello> {
    return await this.#watched(name, (endpoint) => endpoint.hello());
  }

  /** The peer as a Replica server. Failure `not-found` for a host that isn't paired. */
  get(name: string): ReplicaEndpoint {
    this.#connected(name);
    return this.following(name);
  }

  /** The peer as a Replica server, whatever its address is, and whether it is paired, when it is asked. */
  following(name: string): ReplicaEndpoint {
    const ask = async <T>(call: (endpoint: HttpsEndpoint) => Promise<T>) => await this.#watched(name, call);
    return {
      prepare: (request) => ask((peer) => peer.prepare(request)),
      status: (id, signal) => ask((peer) => peer.status(id, signal)),
      durableOffset: (id, log, signal) => ask((peer) => peer.durableOffset(id, log, signal)),
      put: (id, log, offset, body, signal) => ask((peer) => peer.put(id, log, offset, body, signal)),
      confirm: (id, position, instant, signal) => ask((peer) => peer.confirm(id, position, instant, signal)),
      digests: (id, question, signal) => ask((peer) => peer.digests(id, question, signal)),
      pageDigests: (id, question, signal) => ask((peer) => peer.pageDigests(id, question, signal)),
      verify: (id, question, signal) => ask((peer) => peer.verify(id, question, signal)),
      lease: (id, seconds, signal) => ask((peer) => peer.lease(id, seconds, signal)),
      takeOver: (id, request) => ask((peer) => peer.takeOver(id, request)),
      remove: (id, options) => ask((peer) => peer.remove(id, options)),
      // A peer that answers (that it is full, say) won't be back.
      back: () => this.#silent.get(name),
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#known.values()].map(({ endpoint }) => endpoint.close()));
  }

  #connected(name: string): HttpsEndpoint {
    const peer = this.#book.get(name);
    if (peer === undefined) throw new Failure('not-found', `${name} is not a paired host`);
    const known = this.#known.get(name);
    if (known !== undefined && JSON.stringify(known.peer) === JSON.stringify(peer)) return known.endpoint;
    const endpoint = new HttpsEndpoint({ authority: this.#authority, peer, lanes: this.#lanes });
    this.#known.set(name, { peer, endpoint });
    void known?.endpoint.close();
    return endpoint;
  }

  async #watched<T>(name: string, call: (endpoint: HttpsEndpoint) => Promise<T>): Promise<T> {
    const endpoint = this.#connected(name);
    try {
      const result = await call(endpoint);
      this.#answered(name);
      return result;
    } catch (error) {
      if (!(error instanceof Failure) || !NO_ANSWER.has(error.code)) this.#answered(name);
      else if (!this.#silent.has(name)) this.#silent.set(name, new Wake());
      throw error;
    }
  }

  #answered(name: string): void {
    const silence = this.#silent.get(name);
    if (silence === undefined) return;
    this.#silent.delete(name);
    silence.call();
    this.#onBack(name);
  }
}
