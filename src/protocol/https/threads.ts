/**
 * What the two threads of a server say to each other. One ends the connections (listener.ts): TLS, HTTP, the bytes of
 * uploads down to their file. The other, the daemon's own (server.ts), decides: who is a peer, what a request is answered.
 */
import type { Landing } from '../../deltalog/landing.ts';
import type { Peer } from '../../security/peer.ts';
import type { Credentials } from '../../security/authority.ts';

/** Who came in: a peer, proven by its certificate, or a stranger who may do nothing but enrol. */
export type Visitor =
  | { readonly kind: 'peer'; readonly name: string; readonly caFingerprint: string; readonly validUntil: number }
  | { readonly kind: 'stranger' };

/** Who this host is and whom it lets in, at one moment. */
export interface Guests {
  readonly caCertificate: string;
  readonly credentials: Credentials;
  readonly peers: readonly Peer[];
  /** Whether strangers may come in to enrol. */
  readonly enrolmentOpen: boolean;
}

export interface Listening {
  /** Names the server in its thread. */
  readonly server: number;
  readonly host: string;
  readonly port: number;
  readonly silenceMs: number;
}

/** A request as it arrived, but for its body. Everything in it is still unchecked. */
export interface Arrived {
  /** Names the request in its server. */
  readonly id: number;
  readonly visitor: Visitor;
  readonly method: string;
  readonly url: string;
  /** Version of the wire that it names. */
  readonly wire?: string;
}

export interface Answered {
  readonly status: number;
  readonly type: string;
  readonly body: string | Uint8Array;
}

/** The listener's questions: who may come in now (at each connection), and what a request is answered. */
export type Question = { readonly kind: 'guests' } | { readonly kind: 'request'; readonly request: Arrived };

export type LogLevel = 'debug' | 'info' | 'warn';

/** What the listener tells. */
export type Told =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly about: object; readonly text: string }
  /** The connection of a request is gone before it was answered. */
  | { readonly kind: 'gone'; readonly id: number };

/** Names a request to the tasks that read its body. */
export interface BodyOf {
  readonly server: number;
  readonly request: number;
  /** Where the body is a strand. */
  readonly upload?: UploadOf;
}

/** Names an upload by several strands. */
export interface UploadOf {
  /** That of its first strand. */
  readonly request: number;
  /** Byte of the log with which it begins. */
  readonly offset: number;
}

export interface Strand extends BodyOf {
  readonly upload: UploadOf;
}

export interface LandBody extends BodyOf {
  readonly landing: Landing;
}

export interface NewGuests {
  readonly server: number;
  readonly guests: Guests;
}
