import { createHash, createHmac, randomBytes, timingSafeEqual, X509Certificate } from 'node:crypto';
import * as z from 'zod';
import type { Now } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';
import type { Authority } from './authority.ts';
import { fingerprint } from './certificate.ts';
import { ADDRESS, checkNewPeer, HOST_NAME, type Peer, type PeerBook } from './peer.ts';
import { printToken, type EnrolmentToken } from './token.ts';

/** Life of a token unless asked otherwise, seconds. */
export const TOKEN_SECONDS = 15 * 60;
/** Wrong uses that a token survives; the next one burns it. */
export const WRONG_USES = 5;
/** Tokens that may be outstanding at once. */
const OUTSTANDING = 32;

/** How a host introduces itself to the other one at pairing. */
export interface Introduction {
  readonly name: string;
  readonly address: string;
  readonly caCertificate: string;
  /** HMAC-SHA-256 over all of it by the token's secret, 64 hex digits: only who knows the token can say this. */
  readonly proof: string;
}

export interface EnrolmentRequest extends Introduction {
  readonly tokenId: string;
}

const introduction = {
  name: z.string().regex(HOST_NAME),
  address: z.string().regex(ADDRESS),
  caCertificate: z.string().max(16 * 1024),
  proof: z.string().regex(/^[0-9a-f]{64}$/),
};
export const IntroductionShape: z.ZodType<Introduction> = z.object(introduction);
export const EnrolmentRequestShape: z.ZodType<EnrolmentRequest> = z.strictObject({
  ...introduction,
  tokenId: z.string().regex(/^[0-9a-f]{16}$/),
});

/** Which way an introduction goes; part of the proof, so that neither can be sent back as the other. */
type Direction = 'joiner' | 'issuer';

interface Outstanding {
  readonly key: Buffer;
  readonly expires: number;
  wrongUses: number;
}

export interface EnrolmentOptions {
  readonly authority: Authority;
  /** Where this host listens, as its peers reach it: `host:port`. */
  readonly address: string;
  readonly peers: PeerBook;
  readonly now?: Now;
}

/**
 * The issuer's side of pairing: hands out one-time tokens and takes in the hosts that come with one. Tokens live in
 * memory only, as keys derived from their secrets: a restart of the daemon voids them.
 */
export class Enrolment {
  readonly #options: EnrolmentOptions;
  readonly #now: Now;
  readonly #outstanding = new Map<string, Outstanding>();

  constructor(options: EnrolmentOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /**
   * Makes a token. `validSeconds` 1..86400, default 900.
   * Failures: `bad-request` (validity), `busy` (too many tokens are outstanding).
   */
  issue(options: { validSeconds?: number } = {}): { token: string; expires: number } {
    const seconds = options.validSeconds ?? TOKEN_SECONDS;
    if (!(seconds >= 1 && seconds <= 86400)) {
      throw new Failure('bad-request', `A token can be valid for 1 to 86400 seconds, not ${seconds}`);
    }
    this.#dropExpired();
    if (this.#outstanding.size >= OUTSTANDING) {
      throw new Failure('busy', `${OUTSTANDING} enrolment tokens are outstanding`, {
        hint: 'Use one of them, or wait until they expire.',
      });
    }
    const { authority, address } = this.#options;
    const token: EnrolmentToken = {
      name: authority.name,
      address,
      caFingerprint: authority.caFingerprint,
      id: randomBytes(8).toString('hex'),
      secret: randomBytes(16),
      expires: this.#now() + Math.round(seconds * 1000),
    };
    this.#outstanding.set(token.id, { key: keyOf(token.secret), expires: token.expires, wrongUses: 0 });
    return { token: printToken(token), expires: token.expires };
  }

  /** Whether any token could still be used: only then is the door for strangers open. */
  get isOpen(): boolean {
    this.#dropExpired();
    return this.#outstanding.size > 0;
  }

  /**
   * Takes in a host that comes with a token, and answers with this host's introduction. Failures: `token-invalid`
   * (unknown, expired, used, or wrong secret), `already-exists` (that name is known with another CA), `bad-request`.
   */
  accept(request: EnrolmentRequest): Introduction {
    this.#dropExpired();
    const held = this.#outstanding.get(request.tokenId);
    if (held === undefined) throw new Failure('token-invalid', 'The token is unknown, expired or used');
    if (!isProven(request, 'joiner', held.key)) {
      held.wrongUses += 1;
      if (held.wrongUses > WRONG_USES) this.#outstanding.delete(request.tokenId);
      throw new Failure('token-invalid', `The token's proof is wrong (use ${held.wrongUses} of ${WRONG_USES + 1})`);
    }
    admit(this.#options.peers, this.#options.authority, request, this.#now());
    this.#outstanding.delete(request.tokenId);
    return introduce(this.#options.authority, this.#options.address, 'issuer', held.key);
  }

  #dropExpired(): void {
    const now = this.#now();
    for (const [id, { expires }] of this.#outstanding) {
      if (expires <= now) this.#outstanding.delete(id);
    }
  }
}

/** The joiner's side, first half: what it sends to the issuer. `address` is where the joiner listens. */
export function requestEnrolment(authority: Authority, address: string, token: EnrolmentToken): EnrolmentRequest {
  return { ...introduce(authority, address, 'joiner', keyOf(token.secret)), tokenId: token.id };
}

/**
 * The joiner's side, second half: checks the issuer's answer against the token and stores the issuer as a peer.
 * Failures: `peer-identity` (answer isn't by the token's issuer), `already-exists`.
 */
export function concludeEnrolment(
  peers: PeerBook,
  authority: Authority,
  token: EnrolmentToken,
  answer: Introduction,
  now: number,
): Peer {
  const proven = isProven(answer, 'issuer', keyOf(token.secret)) && answer.name === token.name;
  if (!proven || fingerprintOf(answer) !== token.caFingerprint) {
    throw new Failure(
      'peer-identity',
      `What answered at ${token.address} is not ${token.name}, which issued the token`,
    );
  }
  // The address in the token is the one that has just worked from here.
  return admit(peers, authority, { ...answer, address: token.address }, now);
}

function admit(peers: PeerBook, authority: Authority, introduced: Introduction, now: number): Peer {
  const { name, address, caCertificate } = introduced;
  const peer = { name, address, caCertificate, caFingerprint: fingerprintOf(introduced) };
  if (name === authority.name || peer.caFingerprint === authority.caFingerprint) {
    throw new Failure('bad-request', `${name} is this host: a host can't be its own peer`, {
      hint: 'Use the token on another host; two hosts need two names.',
    });
  }
  const ca = new X509Certificate(caCertificate);
  const isSound = ca.ca && ca.checkIssued(ca) && ca.verify(ca.publicKey) && ca.publicKey.asymmetricKeyType === 'ec';
  if (!isSound || now < ca.validFromDate.getTime() || now > ca.validToDate.getTime()) {
    throw new Failure('bad-request', `The certificate of ${name} is not that of a valid certificate authority`, {
      hint: "Compare the clocks of the two hosts; if they agree, remove the host's security directory and start it again.",
    });
  }
  checkNewPeer(peers, peer);
  peers.add(peer);
  return peer;
}

function fingerprintOf(introduced: Introduction): string {
  try {
    return fingerprint(introduced.caCertificate);
  } catch (error) {
    throw new Failure('bad-request', `What ${introduced.name} gave as its CA is not a certificate`, { cause: error });
  }
}

/** What is kept of a secret: enough to check a proof, not enough to print the token again. */
function keyOf(secret: Buffer): Buffer {
  return createHash('sha256').update('understudy enrolment 1\0').update(secret).digest();
}

function introduce(authority: Authority, address: string, direction: Direction, key: Buffer): Introduction {
  const { name, caCertificate } = authority;
  return {
    name,
    address,
    caCertificate,
    proof: prove({ name, address, caCertificate }, direction, key).toString('hex'),
  };
}

function isProven(introduced: Introduction, direction: Direction, key: Buffer): boolean {
  return timingSafeEqual(prove(introduced, direction, key), Buffer.from(introduced.proof, 'hex'));
}

function prove(introduced: Omit<Introduction, 'proof'>, direction: Direction, key: Buffer): Buffer {
  const { name, address, caCertificate } = introduced;
  return createHmac('sha256', key)
    .update(JSON.stringify([direction, name, address, caCertificate]))
    .digest();
}
