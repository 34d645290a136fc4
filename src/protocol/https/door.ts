import type { Socket } from 'node:net';
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';
import type { Log } from '../../lib/log.ts';
import { authenticate } from '../../security/authenticate.ts';
import type { Authority } from '../../security/authority.ts';
import type { Enrolment } from '../../security/enrolment.ts';
import type { PeerBook } from '../../security/peer.ts';
import { ENROLMENT_NAME, TCP_KEEP_ALIVE_MS } from './wire.ts';

/** Who came in: a peer, proven by its certificate, or a stranger who may do nothing but enrol. */
export type Visitor =
  | { readonly kind: 'peer'; readonly name: string; readonly caFingerprint: string; readonly validUntil: number }
  | { readonly kind: 'stranger' };

/** Time for the TLS handshake, ms. */
const HANDSHAKE_MS = 10_000;
/** A stranger's connection lives no longer than this, ms. */
const STRANGER_MS = 10_000;
/** Strangers inside at once. */
const MAX_STRANGERS = 8;
const MAX_CONNECTIONS = 1024;

export interface DoorOptions {
  readonly authority: Authority;
  readonly peers: PeerBook;
  readonly enrolment: Enrolment;
  readonly log: Log;
  /** Takes a socket whose other end is known. */
  readonly letIn: (socket: TLSSocket) => void;
}

/**
 * TLS 1.3 with mutual authentication. Whoever isn't a paired peer is cut off at the end of the handshake, before a
 * byte of HTTP is read from or written to it; the reason goes to the log, not to the stranger.
 */
export class Door {
  readonly server: Server;
  readonly #options: DoorOptions;
  readonly #inside = new Map<TLSSocket, Visitor>();
  /** All connections, also those whose handshake is still going on. */
  readonly #connections = new Set<Socket>();
  #contextKey: string;

  constructor(options: DoorOptions) {
    this.#options = options;
    const context = this.#context();
    this.#contextKey = keyOf(context);
    this.server = createServer({
      ...context,
      requestCert: true,
      rejectUnauthorized: false, // decided below, by rules that are stricter than "of some CA in the list"
      handshakeTimeout: HANDSHAKE_MS,
      ALPNProtocols: ['http/1.1'],
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
    });
    this.server.maxConnections = MAX_CONNECTIONS;
    // Before the handshake begins: a new peer or a renewed certificate counts from the next connection on.
    this.server.prependListener('connection', (socket: Socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
      this.#refreshContext();
    });
    this.server.on('secureConnection', (socket) => this.#judge(socket));
    this.server.on('tlsClientError', (error, socket) => {
      options.log.debug({ from: socket.remoteAddress, reason: error.message }, 'TLS handshake failed');
    });
  }

  /** Who is at the other end of a socket that was let in, if still welcome. */
  visitor(socket: TLSSocket): Visitor | undefined {
    const visitor = this.#inside.get(socket);
    return visitor !== undefined && this.#isWelcome(visitor) ? visitor : undefined;
  }

  /** Cuts the connections of those who are no longer peers. */
  expelRemoved(): void {
    for (const [socket, visitor] of this.#inside) {
      if (visitor.kind === 'peer' && !this.#isWelcome(visitor)) socket.destroy();
    }
  }

  closeAll(): void {
    for (const socket of this.#connections) socket.destroy();
  }

  #judge(socket: TLSSocket): void {
    const { peers, log } = this.#options;
    const from = socket.remoteAddress;
    socket.on('error', (error) => log.debug({ from, reason: error.message }, 'connection broke'));
    const verdict = authenticate(socket.getPeerX509Certificate(), peers.list(), Date.now());
    if (verdict.peer !== undefined && socket.authorized) {
      const { name, caFingerprint } = verdict.peer;
      this.#admit(socket, { kind: 'peer', name, caFingerprint, validUntil: verdict.validUntil });
      return;
    }
    if (this.#mayEnrol(socket)) {
      const timer = setTimeout(() => socket.destroy(), STRANGER_MS);
      socket.once('close', () => clearTimeout(timer));
      this.#admit(socket, { kind: 'stranger' });
      return;
    }
    const reason = verdict.peer === undefined ? verdict.reason : `TLS: ${socket.authorizationError}`;
    const refusal = verdict.peer === undefined ? verdict.refusal : 'unknown-authority';
    log.warn({ from, refusal }, `refused a connection: ${reason}`);
    socket.destroy();
  }

  #mayEnrol(socket: TLSSocket): boolean {
    const { servername } = socket as TLSSocket & { servername?: string | false }; // documented, missing in the types
    if (servername !== ENROLMENT_NAME || !this.#options.enrolment.isOpen) return false;
    let strangers = 0;
    for (const visitor of this.#inside.values()) if (visitor.kind === 'stranger') strangers += 1;
    return strangers < MAX_STRANGERS;
  }

  #admit(socket: TLSSocket, visitor: Visitor): void {
    this.#inside.set(socket, visitor);
    socket.once('close', () => this.#inside.delete(socket));
    this.#options.letIn(socket);
  }

  #isWelcome(visitor: Visitor): boolean {
    if (visitor.kind === 'stranger') return this.#options.enrolment.isOpen;
    const known = this.#options.peers.get(visitor.name);
    return known?.caFingerprint === visitor.caFingerprint && Date.now() <= visitor.validUntil;
  }

  #context(): Context {
    const { authority, peers } = this.#options;
    const { chain, key } = authority.credentials;
    return {
      minVersion: 'TLSv1.3',
      cert: chain,
      key,
      ca: [authority.caCertificate, ...peers.list().map((peer) => peer.caCertificate)],
    };
  }

  #refreshContext(): void {
    const context = this.#context();
    const key = keyOf(context);
    if (key === this.#contextKey) return;
    this.server.setSecureContext(context);
    this.#contextKey = key;
  }
}

interface Context extends SecureContextOptions {
  readonly cert: string;
  readonly ca: string[];
}

function keyOf(context: Context): string {
  return [context.cert, ...context.ca].join('');
}
