import * as z from 'zod';
import { Failure } from '../model/failure.ts';
import { ADDRESS, HOST_NAME } from './peer.ts';

/** What an enrolment token says. One line of about 200 printable characters; whoever holds it can pair once. */
export interface EnrolmentToken {
  /** Name of the host that issued it. */
  readonly name: string;
  /** Where the issuer listens, `host:port`. */
  readonly address: string;
  /** SHA-256 of the issuer's CA, 64 hex digits: how the joiner knows that it talks to the issuer. */
  readonly caFingerprint: string;
  /** Names the token; no secret. */
  readonly id: string;
  /** 128 random bits. */
  readonly secret: Buffer;
  /** ms since the epoch, the issuer's clock. */
  readonly expires: number;
}

const PREFIX = 'understudy1.';
const hex = (bytes: number): z.ZodString => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
const Shape = z.tuple([
  z.string().regex(HOST_NAME),
  z.string().regex(ADDRESS),
  hex(32),
  hex(8),
  hex(16),
  z.int().positive(),
]);

/** Writes a token: a prefix with its version, a dot, base64url. */
export function printToken(token: EnrolmentToken): string {
  const { name, address, caFingerprint, id, secret, expires } = token;
  const fields = [name, address, caFingerprint, id, secret.toString('hex'), expires];
  return PREFIX + Buffer.from(JSON.stringify(fields)).toString('base64url');
}

/** Reads a token. Failures: `token-invalid` (not a token), `format-unknown` (of another version). */
export function readToken(text: string): EnrolmentToken {
  const trimmed = text.trim();
  if (/^understudy\d+\./.test(trimmed) && !trimmed.startsWith(PREFIX)) {
    throw new Failure(
      'format-unknown',
      `The token is of version ${trimmed.slice(10, trimmed.indexOf('.'))}, known is 1`,
    );
  }
  const fields = Shape.safeParse(trimmed.startsWith(PREFIX) ? decode(trimmed.slice(PREFIX.length)) : undefined);
  if (!fields.success) {
    throw new Failure('token-invalid', 'This is not an enrolment token', {
      hint: 'Copy the whole line that `understudy peer token` printed on the other host.',
    });
  }
  const [name, address, caFingerprint, id, secret, expires] = fields.data;
  return { name, address, caFingerprint, id, secret: Buffer.from(secret, 'hex'), expires };
}

function decode(base64url: string): unknown {
  try {
    return JSON.parse(Buffer.from(base64url, 'base64url').toString('utf8'));
  } catch {
    return undefined; // not JSON: not a token, as the caller says
  }
}
