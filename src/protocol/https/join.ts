import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { Client } from 'undici';
import { Failure } from '../../model/failure.ts';
import { requirePeer } from '../../security/authenticate.ts';
import type { Authority } from '../../security/authority.ts';
import { fingerprint } from '../../security/certificate.ts';
import { concludeEnrolment, IntroductionShape, requestEnrolment } from '../../security/enrolment.ts';
import type { Peer, PeerBook } from '../../security/peer.ts';
import { readToken, type EnrolmentToken } from '../../security/token.ts';
import { dialer } from './dial.ts';
import { read } from './messages.ts';
import { failureOf, jsonOf, receive, type Received } from './receive.ts';
import { ENROL, ENROLMENT_NAME, WIRE_HEADER, WIRES } from './wire.ts';

export interface JoinOptions {
  /** The line that `understudy peer token` printed on the other host. */
  readonly token: string;
  readonly authority: Authority;
  /** Where this host listens, as its peers reach it: `host:port`. */
  readonly address: string;
  readonly peers: PeerBook;
  /** For the whole exchange, ms; 10 s unless told. */
  readonly timeoutMs?: number;
}

/**
 * Pairs this host with the one that issued the token; on return each has the other in its book. The token's secret
 * leaves this host only as a proof, and only towards the host whose CA the token names.
 * Failures: `token-invalid`, `format-unknown`, `unreachable`, `timeout`, `peer-identity` (something else answered at the
 * token's address), `already-exists`, `bad-request`.
 */
export async function join(options: JoinOptions): Promise<Peer> {
  const { authority, peers } = options;
  const token = readToken(options.token);
  const timeoutMs = options.timeoutMs ?? 10_000;
  const client = new Client('https://enrolment.understudy.invalid', {
    connect: dialer(() => ({
      name: token.name,
      address: token.address,
      servername: ENROLMENT_NAME,
      timeoutMs,
      identity: { rejectUnauthorized: false }, // whom to believe is in the token: checked before anything is sent
      check: (socket) => requireIssuer(socket, token),
    })),
    allowH2: false,
    pipelining: 1,
  });
  let received: Received;
  try {
    received = await receive(client, {
      method: 'POST',
      path: ENROL,
      headers: { [WIRE_HEADER]: String(Math.max(...WIRES)), 'content-type': 'application/json' },
      body: JSON.stringify(requestEnrolment(authority, options.address, token)),
      signal: AbortSignal.timeout(timeoutMs),
      heard: () => undefined,
    });
  } catch (error) {
    throw explain(error, token);
  } finally {
    await client.destroy();
  }
  if (received.status !== 200) throw failureOf(received, token.name);
  const answer = read(IntroductionShape, jsonOf(received), `answer of ${token.name}`, 'format-unknown');
  return concludeEnrolment(peers, authority, token, answer, Date.now());
}

/** The other end must show a certificate of the token's name, issued by the CA of the token's fingerprint. */
function requireIssuer(socket: TLSSocket, token: EnrolmentToken): void {
  const chain = socket.getPeerCertificate(true).issuerCertificate as { raw: Buffer } | undefined;
  const authority = chain === undefined ? undefined : new X509Certificate(chain.raw).toString();
  if (authority === undefined || fingerprint(authority) !== token.caFingerprint) {
    throw new Failure(
      'peer-identity',
      `What answers at ${token.address} is not ${token.name}, which issued the token`,
      {
        hint: 'Another host may use that address, or something sits between the two and reads along. Check the address first.',
      },
    );
  }
  const issuer = { ...token, caCertificate: authority };
  requirePeer(socket.getPeerX509Certificate(), issuer, Date.now());
}

function explain(error: unknown, token: EnrolmentToken): Failure {
  if (error instanceof Failure) return error;
  const cause = { cause: error };
  if (error instanceof Error && error.name === 'TimeoutError') {
    return new Failure('timeout', `${token.name} (${token.address}) didn't answer in time`, cause);
  }
  // With no token outstanding the issuer hangs up on strangers.
  return new Failure('token-invalid', `${token.name} hung up: it knows of no token that could still be used`, cause);
}
