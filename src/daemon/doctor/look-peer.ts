import { lookup } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import { orAborted } from '../../lib/abortable.ts';
import { within } from '../../lib/clock.ts';
import { asFailure, Failure } from '../../model/failure.ts';
import type { PeerHello } from '../../protocol/https/client.ts';
import type { PeerFacts } from './peer.ts';

/** How long each question may take, ms. */
const PATIENCE_MS = 5000;

/** @param hello asks the peer who it is. */
export async function lookAtPeer(
  { name, address }: { readonly name: string; readonly address: string },
  hello: () => Promise<PeerHello>,
): Promise<PeerFacts> {
  const { host, port } = partsOf(address);
  const addresses = await addressesOf(host);
  const facts = { name, host, port, addresses };
  if ('error' in addresses) return facts;
  const connection = await tryPort(host, port);
  if (connection !== true) return { ...facts, connection };
  return { ...facts, connection, hello: await ask(hello) };
}

function partsOf(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(address.slice(at + 1)) };
}

async function addressesOf(host: string): Promise<PeerFacts['addresses']> {
  if (isIP(host) !== 0) return [host];
  try {
    return (await inTime(lookup(host, { all: true }))).map(({ address }) => address);
  } catch (error) {
    return { error: asFailure(error).message };
  }
}

async function tryPort(host: string, port: number): Promise<NonNullable<PeerFacts['connection']>> {
  return await new Promise((resolve) => {
    const socket = connect({ host, port, timeout: PATIENCE_MS });
    const end = (answer: true | { error: string }): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('timeout', () => end({ error: `no answer within ${PATIENCE_MS / 1000} s` }));
    socket.once('error', (error) => end({ error: error.message }));
  });
}

async function ask(hello: () => Promise<PeerHello>): Promise<NonNullable<PeerFacts['hello']>> {
  try {
    const { version, skewMs, roundTripMs } = await inTime(hello());
    return { version, skewMs, roundTripMs };
  } catch (error) {
    return asFailure(error).toJSON();
  }
}

/** An answer that is late is nobody's any more. */
async function inTime<T>(answer: Promise<T>): Promise<T> {
  const late = () => new Failure('timeout', `no answer within ${PATIENCE_MS / 1000} s`);
  return await within(PATIENCE_MS, late, (signal) => orAborted(answer, signal));
}
