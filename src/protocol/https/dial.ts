import { connect, createSecureContext, type ConnectionOptions, type SecureContext, type TLSSocket } from 'node:tls';
import type { buildConnector } from 'undici';
import { Failure } from '../../model/failure.ts';
import { parseAddress } from '../../security/peer.ts';
import { TCP_KEEP_ALIVE_MS } from './wire.ts';

export interface Dial {
  /** Name of the host that is called, for messages. */
  readonly name: string;
  /** `host:port`. */
  readonly address: string;
  /** Asked for by SNI. */
  readonly servername: string;
  /** For TCP and TLS together, ms. */
  readonly timeoutMs: number;
  /** What we show and whom we believe. */
  readonly identity: Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized'>;
  /** Looks at the other end before a byte of HTTP is sent; throws if it is the wrong one. */
  readonly check: (socket: TLSSocket) => void;
}

/** Opens a TLS 1.3 connection. Failures: `unreachable`, `peer-identity`, and what `check` throws. */
export function dial(options: Dial): Promise<TLSSocket> {
  const { name, address, timeoutMs } = options;
  const { host, port } = parseAddress(address);
  return new Promise((resolve, reject) => {
    const socket = connect({
      secureContext: contextOf(options.identity),
      rejectUnauthorized: options.identity.rejectUnauthorized,
      host,
      port,
      servername: options.servername,
      ALPNProtocols: ['http/1.1'],
      checkServerIdentity: () => undefined, // `check` does it, knowing which CA may say which name
    });
    const fail = (failure: unknown): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(failure);
    };
    const timer = setTimeout(() => {
      fail(new Failure('unreachable', `${name} (${address}) gave no answer within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    socket.setNoDelay(true).setKeepAlive(true, TCP_KEEP_ALIVE_MS);
    socket.on('error', (error) => {
      const cause = { cause: error };
      // Set by TLS when the other end's certificate isn't of the CA that we asked for.
      if (socket.authorizationError as unknown) {
        fail(
          new Failure(
            'peer-identity',
            `${address} is not ${name}: its certificate was refused (${error.message})`,
            cause,
          ),
        );
      } else {
        fail(new Failure('unreachable', `Can't connect to ${name} (${address}): ${reason(error)}`, cause));
      }
    });
    socket.once('secureConnect', () => {
      try {
        options.check(socket);
      } catch (error) {
        fail(error);
        return;
      }
      clearTimeout(timer);
      resolve(socket);
    });
  });
}

/** One for each peer that is called, and some more: certificates are renewed. */
const MOST_CONTEXTS = 16;
const contexts = new Map<string, SecureContext>();

/**
 * The same for each connection with the same identity: what TLS keeps of certificates is outside of JavaScript's heap, which notices too late
 * that it has been given up.
 */
function contextOf({ ca, cert, key }: Dial['identity']): SecureContext {
  const name = JSON.stringify([ca, cert, key]);
  const context = contexts.get(name) ?? createSecureContext({ ca, cert, key, minVersion: 'TLSv1.3' });
  contexts.delete(name);
  contexts.set(name, context);
  if (contexts.size > MOST_CONTEXTS) contexts.delete(contexts.keys().next().value!);
  return context;
}

/** `dial` in the form in which undici wants it. @param connected told of each connection, before it is used. */
export function dialer(options: () => Dial, connected: () => void = () => undefined): buildConnector.connector {
  const open = async (): Promise<TLSSocket> => dial(options());
  return (_, callback) => {
    open().then(
      (socket) => {
        connected();
        callback(null, socket);
      },
      (error: Error) => callback(error, null),
    );
  };
}

/** One connection attempt per address of the host may have failed; each says why. */
function reason(error: Error): string {
  return error instanceof AggregateError ? error.errors.map((each: Error) => each.message).join('; ') : error.message;
}
