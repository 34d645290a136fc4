import { Failure } from '../model/failure.ts';

/** Another host that this one trusts, since a person paired the two. */
export interface Peer {
  /** The peer's host name in lower case: what its certificate must say, and what the peer is called everywhere. */
  readonly name: string;
  /** Where its understudyd listens: `host:port`, `192.0.2.7:7443`, `[2001:db8::7]:7443`. */
  readonly address: string;
  /** The peer's own CA, PEM. It vouches for this peer and for nobody else. */
  readonly caCertificate: string;
  /** SHA-256 of the CA certificate's DER form, 64 hex digits. */
  readonly caFingerprint: string;
}

/** Where the paired peers are kept. Synchronous: it is asked at every connection and every request. */
export interface PeerBook {
  list(): readonly Peer[];
  get(name: string): Peer | undefined;
  /** Adds a peer, or replaces the one of that name. */
  add(peer: Peer): void;
  /** Does nothing for a name that isn't there. */
  remove(name: string): void;
}

const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';

/** A host name as a certificate can carry it: DNS labels in lower case, 253 characters at most, no wildcard. */
export const HOST_NAME = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})*$`);

/** `host:port` with a name, an IPv4 address or an IPv6 address in brackets. */
export const ADDRESS = /^(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):[0-9]{1,5}$/;

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/** Takes `host:port` apart. Throws Failure `bad-request` for anything else. */
export function parseAddress(address: string): HostAndPort {
  const colon = address.lastIndexOf(':');
  const port = Number(address.slice(colon + 1));
  if (!ADDRESS.test(address) || port < 1 || port > 65535) {
    throw new Failure('bad-request', `"${address.slice(0, 300)}" is not an address`, {
      hint: 'Write it as host:port, an IPv6 address in brackets: replica.example:7443, 192.0.2.7:7443, [2001:db8::7]:7443.',
    });
  }
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port };
}

/**
 * Says whether a peer of this name and CA may come into the book: it may when both are new or when both belong to the
 * same entry. Throws Failure `already-exists` when the name is known with another CA, or the CA with another name.
 */
export function checkNewPeer(book: PeerBook, peer: Pick<Peer, 'name' | 'caFingerprint'>): void {
  for (const known of book.list()) {
    if ((known.name === peer.name) === (known.caFingerprint === peer.caFingerprint)) continue;
    throw new Failure(
      'already-exists',
      known.name === peer.name
        ? `${peer.name} is paired already, with another certificate authority (${known.caFingerprint})`
        : `The certificate authority of ${peer.name} is already that of ${known.name}`,
      { hint: `If the host was reinstalled or renamed, remove ${known.name} from the peers first, then pair again.` },
    );
  }
}
