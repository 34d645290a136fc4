import { createPrivateKey, X509Certificate } from 'node:crypto';
import { chmod, readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { makeDirectory, writeAtomic } from '../lib/atomic-file.ts';
import type { Now } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';
import { fingerprint, makeAuthority, makeLeaf, type KeyAndCertificate, type Validity } from './certificate.ts';
import { HOST_NAME } from './peer.ts';

const DAY = 24 * 3600 * 1000;
/** Validity of a host's own certificate, days. */
export const LEAF_DAYS = 398;
/** Validity of a host's CA, days: ten years. It is what peers hold, so it lasts as long as a host does. */
export const CA_DAYS = 3653;
/** Certificates are valid from one day before they were made: clocks of two hosts differ. */
const BACKDATED = DAY;

/** What a host shows of itself on a connection. */
export interface Credentials {
  /** The host's own certificate and its CA's, PEM. */
  readonly chain: string;
  /** Private key of the host's own certificate, PEM. */
  readonly key: string;
}

/** This host's certificate authority and the certificate that it gave the host. */
export interface Authority {
  /** The host's name: the DNS name in its certificate. */
  readonly name: string;
  /** PEM; what peers get at pairing. */
  readonly caCertificate: string;
  readonly caFingerprint: string;
  /** The present ones; ask again for each connection, since they get renewed. */
  readonly credentials: Credentials;
  /** ms since the epoch at which the host's own certificate ends. */
  readonly expires: number;
  /** Makes a new certificate when less than a third of the old one's life is left; says whether it did. Call it daily. */
  renewIfDue(): Promise<boolean>;
}

export interface AuthorityOptions {
  /** The host's name; kept in lower case. */
  readonly hostName: string;
  /** Further DNS names and IP addresses for the certificate. Peers don't need them: they ask for the host's name. */
  readonly addresses: readonly string[];
  readonly now?: Now;
}

/**
 * Opens the host's authority in `directory` (0700), making it and the host's certificate where they aren't there yet.
 * A certificate that no longer fits (names changed, due for renewal, damaged) is made anew; a CA never is: peers hold it.
 * Failures: `bad-config` (host name), `io` (directory or CA unreadable).
 */
export async function openAuthority(directory: string, options: AuthorityOptions): Promise<Authority> {
  const now = options.now ?? Date.now;
  const hostName = options.hostName.toLowerCase();
  for (const name of [hostName, ...options.addresses]) {
    if (HOST_NAME.test(name.toLowerCase()) || (name !== hostName && isIP(name) !== 0)) continue;
    throw new Failure('bad-config', `"${name}" can't be a name in a certificate`, {
      hint: 'Use a host name of letters, digits, hyphens and dots; addresses may also be IP addresses.',
    });
  }
  const names: [string, ...string[]] = [hostName, ...options.addresses];
  await makeDirectory(directory, 0o700);
  await chmod(directory, 0o700);

  const caFile = join(directory, 'ca.pem');
  const ca = (await load(caFile)) ?? (await save(caFile, await makeAuthority(hostName, validity(now(), CA_DAYS))));
  checkAuthority(ca, caFile);

  const leafFile = join(directory, 'host.pem');
  const renew = async (): Promise<KeyAndCertificate> =>
    save(leafFile, await makeLeaf(ca, names, validity(now(), LEAF_DAYS)));
  const found = await load(leafFile);
  let leaf = found !== undefined && fits(found, ca, names) ? found : await renew();

  const authority = {
    name: hostName,
    caCertificate: ca.certificate,
    caFingerprint: fingerprint(ca.certificate),
    get credentials(): Credentials {
      return { chain: leaf.certificate + ca.certificate, key: leaf.key };
    },
    get expires(): number {
      return new X509Certificate(leaf.certificate).validToDate.getTime();
    },
    async renewIfDue(): Promise<boolean> {
      if (!isDue(leaf, now())) return false;
      leaf = await renew();
      return true;
    },
  };
  await authority.renewIfDue();
  return authority;
}

function validity(now: number, days: number): Validity {
  return { from: new Date(now - BACKDATED), to: new Date(now + days * DAY) };
}

function isDue(leaf: KeyAndCertificate, now: number): boolean {
  const { validFromDate, validToDate } = new X509Certificate(leaf.certificate);
  const life = validToDate.getTime() - validFromDate.getTime();
  // Made while this host's clock was ahead: nobody would believe it before that time has come.
  return validToDate.getTime() - now < life / 3 || now < validFromDate.getTime();
}

/** Key and certificate lie in one file, so that a crash can't leave one without the other. */
async function save(file: string, pair: KeyAndCertificate): Promise<KeyAndCertificate> {
  await writeAtomic(file, pair.certificate + pair.key, 0o600);
  return pair;
}

async function load(file: string): Promise<KeyAndCertificate | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
    await chmod(file, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Failure('io', `Can't read ${file}`, { cause: error });
  }
  const certificate = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/.exec(text)?.[0];
  const key = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n/.exec(text)?.[0];
  return { certificate: certificate ?? '', key: key ?? '' };
}

function checkAuthority(ca: KeyAndCertificate, file: string): void {
  try {
    if (new X509Certificate(ca.certificate).checkPrivateKey(createPrivateKey(ca.key))) return;
  } catch (error) {
    throw damaged(file, error);
  }
  throw damaged(file, undefined);
}

function damaged(file: string, cause: unknown): Failure {
  return new Failure('io', `${file} is damaged: it must hold this host's CA certificate and its key`, {
    cause,
    hint: 'Bring the file back from a backup, or delete its directory: the host then gets a new identity and must be paired again.',
  });
}

function fits(leaf: KeyAndCertificate, ca: KeyAndCertificate, names: readonly string[]): boolean {
  try {
    const certificate = new X509Certificate(leaf.certificate);
    const carried = (certificate.subjectAltName ?? '').split(', ').length;
    return (
      certificate.checkPrivateKey(createPrivateKey(leaf.key)) &&
      certificate.verify(new X509Certificate(ca.certificate).publicKey) &&
      carried === names.length &&
      names.every((name) => (isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name)) !== undefined)
    );
  } catch {
    return false; // not a certificate or key: damaged, and cheaply made anew
  }
}
