/** The hosts that this one is paired with, kept in the store, and the way to each. */
import { Failure } from '../model/failure.ts';
import type { ReplicaEndpoint } from '../protocol/endpoint.ts';
import { HttpsEndpoint } from '../protocol/https/client.ts';
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

/** Connections to peers, made when first asked for and again when the peer's address or CA has changed. */
export class PeerEndpoints {
  readonly #authority: Authority;
  readonly #book: PeerBook;
  readonly #known = new Map<string, { peer: Peer; endpoint: HttpsEndpoint }>();

  constructor(authority: Authority, book: PeerBook) {
    this.#authority = authority;
    this.#book = book;
  }

  /** Failure `not-found` for a host that isn't paired. */
  get(name: string): HttpsEndpoint {
    const peer = this.#book.get(name);
    if (peer === undefined) throw new Failure('not-found', `${name} is not a paired host`);
    const known = this.#known.get(name);
    if (known !== undefined && JSON.stringify(known.peer) === JSON.stringify(peer)) return known.endpoint;
    const endpoint = new HttpsEndpoint({ authority: this.#authority, peer });
    this.#known.set(name, { peer, endpoint });
    void known?.endpoint.close();
    return endpoint;
  }

  /** The peer as a Replica server, whatever its address is when it is asked. */
  following(name: string): ReplicaEndpoint {
    const now = () => this.get(name);
    return {
      prepare: async (request) => await now().prepare(request),
      status: async (id) => await now().status(id),
      durableOffset: async (id, log) => await now().durableOffset(id, log),
      put: async (id, log, offset, body, signal) => await now().put(id, log, offset, body, signal),
      confirm: async (id, position, instant) => await now().confirm(id, position, instant),
      digests: async (id, target, from, count) => await now().digests(id, target, from, count),
      takeOver: async (id, request) => await now().takeOver(id, request),
      remove: async (id, options) => await now().remove(id, options),
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#known.values()].map(({ endpoint }) => endpoint.close()));
  }
}
