import 'reflect-metadata'; // @peculiar/x509 needs it, and needs it first
import * as x509 from '@peculiar/x509';
import { randomBytes, X509Certificate, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';

x509.cryptoProvider.set(webcrypto);

const KEY = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;
const SERVER_AUTHENTICATION = '1.3.6.1.5.5.7.3.1';
export const CLIENT_AUTHENTICATION = '1.3.6.1.5.5.7.3.2';

export interface KeyAndCertificate {
  /** PEM. */
  readonly certificate: string;
  /** PKCS#8, PEM. */
  readonly key: string;
}

export interface Validity {
  readonly from: Date;
  readonly to: Date;
}

/** Makes the certificate authority of one host: self-signed, EC P-256, may only sign end certificates. */
export async function makeAuthority(hostName: string, validity: Validity): Promise<KeyAndCertificate> {
  const keys = await webcrypto.subtle.generateKey(KEY, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [`Understudy CA of ${hostName}`.slice(0, 64)] }],
    notBefore: validity.from,
    notAfter: validity.to,
    signingAlgorithm: SIGNATURE,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, key: await exportKey(keys.privateKey) };
}

/**
 * Makes a host's own certificate, for both ends of a connection (AUT-08: server and client authentication, named after
 * the host). `names` become DNS names or IP addresses, each as it looks.
 */
export async function makeLeaf(
  authority: KeyAndCertificate,
  names: readonly [string, ...string[]],
  validity: Validity,
): Promise<KeyAndCertificate> {
  const keys = await webcrypto.subtle.generateKey(KEY, true, ['sign', 'verify']);
  const issuer = new x509.X509Certificate(authority.certificate);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [names[0].slice(0, 64)] }],
    issuer: issuer.subject,
    notBefore: validity.from,
    notAfter: validity.to,
    signingAlgorithm: SIGNATURE,
    publicKey: keys.publicKey,
    signingKey: await importKey(authority.key),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([SERVER_AUTHENTICATION, CLIENT_AUTHENTICATION]),
      new x509.SubjectAlternativeNameExtension(
        names.map((name) => ({ type: isIP(name) === 0 ? 'dns' : 'ip', value: name })),
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, key: await exportKey(keys.privateKey) };
}

/** SHA-256 of a certificate's DER form, 64 hex digits. Throws when `pem` isn't a certificate. */
export function fingerprint(pem: string): string {
  return new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase();
}

/** 127 random bits; RFC 5280 wants a positive number of at most 20 bytes. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`;
}

async function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const [der] = x509.PemConverter.decode(pem);
  if (der === undefined) throw new Error('no private key in the file');
  return webcrypto.subtle.importKey('pkcs8', der, KEY, false, ['sign']);
}
