import { X509Certificate } from 'node:crypto';
import { Failure } from '../model/failure.ts';
import { CLIENT_AUTHENTICATION } from './certificate.ts';
import type { Peer } from './peer.ts';

/** Why a certificate isn't that of a peer. */
export type Refusal =
  | 'no-certificate'
  | 'unknown-authority'
  | 'not-yet-valid'
  | 'expired'
  | 'wrong-name'
  | 'wrong-purpose';

/** The peer that a certificate is the proof of, or why it is the proof of none. */
export type Verdict =
  | { readonly peer: Peer; readonly validUntil: number }
  | { readonly peer: undefined; readonly refusal: Refusal; readonly reason: string };

/**
 * Says which of `peers` a certificate belongs to. Trust is pinned: the certificate must be issued by that peer's own CA
 * directly *and* carry that peer's name. A peer's CA vouches for its own name only, whatever it signs.
 * Possession of the private key is TLS's to prove, before anybody asks here.
 * @param now ms since the epoch.
 */
export function authenticate(certificate: X509Certificate | undefined, peers: Iterable<Peer>, now: number): Verdict {
  if (certificate === undefined) return refused('no-certificate', 'it showed no certificate');
  const shown = `its certificate (${certificate.subject || 'without a subject'})`;

  let issuer: { peer: Peer; authority: X509Certificate } | undefined;
  for (const peer of peers) {
    const authority = new X509Certificate(peer.caCertificate);
    if (authority.ca && certificate.checkIssued(authority) && certificate.verify(authority.publicKey)) {
      issuer = { peer, authority };
      break;
    }
  }
  if (issuer === undefined) return refused('unknown-authority', `${shown} is of no authority that was paired`);

  const { peer, authority } = issuer;
  const from = Math.max(certificate.validFromDate.getTime(), authority.validFromDate.getTime());
  const to = Math.min(certificate.validToDate.getTime(), authority.validToDate.getTime());
  const here = `, and this host's clock says ${new Date(now).toISOString()}: one of the two clocks may be wrong`;
  if (now < from) return refused('not-yet-valid', `${shown} is valid from ${new Date(from).toISOString()} only${here}`);
  if (now > to) return refused('expired', `${shown} expired at ${new Date(to).toISOString()}${here}`);
  if (certificate.ca || !(certificate.keyUsage ?? []).includes(CLIENT_AUTHENTICATION)) {
    return refused('wrong-purpose', `${shown} is not one of a host`);
  }
  if (certificate.checkHost(peer.name, { subject: 'never', wildcards: false }) === undefined) {
    const names = certificate.subjectAltName ?? 'no name';
    return refused(
      'wrong-name',
      `${shown} is for ${names}, but the authority that issued it speaks for ${peer.name} only`,
    );
  }
  return { peer, validUntil: to };
}

/** A host renews its certificate by itself, also one that it made while its clock was wrong. */
const CLOCKS =
  'Set both clocks right (`timedatectl`). The other host renews its certificate by itself within the hour, or when understudyd is started again there.';

function refused(refusal: Refusal, reason: string): Verdict {
  return { peer: undefined, refusal, reason };
}

/** Throws Failure `peer-identity` unless the certificate is that of `peer`. */
export function requirePeer(certificate: X509Certificate | undefined, peer: Peer, now: number): void {
  const verdict = authenticate(certificate, [peer], now);
  if (verdict.peer === undefined) {
    const text = `${peer.address} is not ${peer.name}: ${verdict.reason}`;
    const isTime = verdict.refusal === 'not-yet-valid' || verdict.refusal === 'expired';
    throw new Failure('peer-identity', text, isTime ? { hint: CLOCKS } : {});
  }
}
