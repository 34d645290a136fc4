import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import {
  createServer as createTlsServer,
  type SecureContextOptions,
  type Server as TlsServer,
  type TLSSocket,
} from 'node:tls';
import { authenticate } from '../../security/authenticate.ts';
import type { Guests, LogLevel, Visitor } from './threads.ts';
import { ENROLMENT_NAME, TCP_KEEP_ALIVE_MS } from './wire.ts';

/** Time for the TLS handshake, ms. */
const HANDSHAKE_MS = 10_000;
/** A stranger's connection lives no longer than this, ms. */
const STRANGER_MS = 10_000;
/** Strangers inside at once. */
const MAX_STRANGERS = 8;
const MAX_CONNECTIONS = 1024;

export interface DoorOptions {
  /** Who may come in now. Asked at each connection. */
  readonly guests: () => Promise<Guests>;
  readonly log: (level: LogLevel, about: object, text: string) => void;
  /** Takes a socket whose other end is known. */
  readonly letIn: (socket: TLSSocket) => void;
}

/**
 * TLS 1.3 with mutual authentication. Whoever isn't a paired peer is cut off at the end of the handshake, before a
 * byte of HTTP is read from or written to it; the reason goes to the log, not to the stranger.
 */
export class Door {
  readonly #options: DoorOptions;
  readonly #listening: Server;
  readonly #tls: TlsServer;
  readonly #inside = new Map<TLSSocket, Visitor>();
  /** All connections, also those whose handshake is still going on. */
  readonly #connections = new Set<Socket>();
  #guests: Guests | undefined;
  #contextKey = '';

  constructor(options: DoorOptions) {
    this.#options = options;
    this.#listening = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS });
    this.#listening.maxConnections = MAX_CONNECTIONS;
    this.#listening.on('connection', (socket) => void this.#receive(socket));
    this.#tls = createTlsServer({
      minVersion: 'TLSv1.3',
      requestCert: true,
      rejectUnauthorized: false, // decided below, by rules that are stricter than "of some CA in the list"
      handshakeTimeout: HANDSHAKE_MS,
      ALPNProtocols: ['http/1.1'],
    });
    this.#tls.on('secureConnection', (socket) => this.#judge(socket));
    this.#tls.on('tlsClientError', (error, socket) => {
      options.log('debug', { from: socket.remoteAddress, reason: error.message }, 'TLS handshake failed');
    });
  }

  /** Gives the port. */
  async listen(host: string, port: number): Promise<number> {
    this.#listening.listen({ host, port });
    await once(this.#listening, 'listening');
    return (this.#listening.address() as AddressInfo).port;
  }

  /** From now on these count; the connections of others are cut. */
  setGuests(guests: Guests): void {
    this.#guests = guests;
    for (const [socket, visitor] of this.#inside) {
      if (visitor.kind === 'peer' && !this.#isWelcome(visitor)) socket.destroy();
    }
  }

  async close(): Promise<void> {
    if (!this.#listening.listening) return;
    const closed = once(this.#listening, 'close');
    this.#listening.close();
    for (const socket of this.#connections) socket.destroy();
    await closed;
  }

  /** Who is at the other end of a socket that was let in, if still welcome. */
  visitor(socket: TLSSocket): Visitor | undefined {
    const visitor = this.#inside.get(socket);
    return visitor !== undefined && this.#isWelcome(visitor) ? visitor : undefined;
  }

  /** Before the handshake begins: a new peer or a renewed certificate counts from the next connection on. */
  async #receive(socket: Socket): Promise<void> {
    const { guests, log } = this.#options;
    const from = socket.remoteAddress;
    this.#connections.add(socket);
    socket.once('close', () => this.#connections.delete(socket));
    socket.on('error', (error) => log('debug', { from, reason: error.message }, 'connection broke'));
    try {
      this.#guests = await guests();
      this.#refreshContext(this.#guests);
    } catch (error) {
      log('warn', { from, reason: String(error) }, 'a connection could not be taken');
      socket.destroy();
      return;
    }
    if (!socket.destroyed) this.#tls.emit('connection', socket);
  }

  #judge(socket: TLSSocket): void {
    const { log } = this.#options;
    const from = socket.remoteAddress;
    socket.on('error', (error) => log('debug', { from, reason: error.message }, 'connection broke'));
    const verdict = authenticate(socket.getPeerX509Certificate(), this.#guests?.peers ?? [], Date.now());
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
    log('warn', { from, refusal }, `refused a connection: ${reason}`);
    socket.destroy();
  }

  #mayEnrol(socket: TLSSocket): boolean {
    const { servername } = socket as TLSSocket & { servername?: string | false }; // documented, missing in the types
    if (servername !== ENROLMENT_NAME || this.#guests?.enrolmentOpen !== true) return false;
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
    return this.#guests !== undefined && isWelcome(visitor, this.#guests);
  }

  #refreshContext(guests: Guests): void {
    const { chain, key } = guests.credentials;
    const ca = [guests.caCertificate, ...guests.peers.map((peer) => peer.caCertificate)];
    const contextKey = [chain, ...ca].join('');
    if (contextKey === this.#contextKey) return;
    const context: SecureContextOptions = { minVersion: 'TLSv1.3', cert: chain, key, ca };
    this.#tls.setSecureContext(context);
    this.#contextKey = contextKey;
  }
}

/** Whether who has come in may still be there. */
export function isWelcome(visitor: Visitor, guests: Pick<Guests, 'peers' | 'enrolmentOpen'>): boolean {
  if (visitor.kind === 'stranger') return guests.enrolmentOpen;
  const known = guests.peers.find(({ name }) => name === visitor.name);
  return known?.caFingerprint === visitor.caFingerprint && Date.now() <= visitor.validUntil;
}
