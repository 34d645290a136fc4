/** Who gets in, and that everybody else gets nothing: not a byte of HTTP. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { connect, type ConnectionOptions } from 'node:tls';
import { pino } from 'pino';
import { until } from '../../lib/clock.ts';
import {
  makeAuthority,
  makeLeaf,
  fingerprint,
  type KeyAndCertificate,
  type Validity,
} from '../../security/certificate.ts';
import type { Peer } from '../../security/peer.ts';
import { isFailure, Loopback, type TestHost } from './loopback.fixture.ts';
import { ENROLMENT_NAME } from './wire.ts';

const DAY = 24 * 3600 * 1000;
const days = (from: number, to: number): Validity => ({
  from: new Date(Date.now() + from * DAY),
  to: new Date(Date.now() + to * DAY),
});

let loopback: Loopback;
let host: TestHost;
let ca: KeyAndCertificate;
let refusals: { refusal?: string; level: number }[];

beforeEach(async () => {
  loopback = new Loopback();
  refusals = [];
  const log = pino(
    { level: 'warn' },
    { write: (line: string) => refusals.push(JSON.parse(line) as { level: number }) },
  );
  host = await loopback.host('host-b', { log });
  ca = await makeAuthority('host-a', days(-1, 100));
  host.peers.add(peer('host-a', ca));
});
afterEach(() => loopback.close());

function peer(name: string, authority: KeyAndCertificate): Peer {
  return {
    name,
    address: '127.0.0.1:1',
    caCertificate: authority.certificate,
    caFingerprint: fingerprint(authority.certificate),
  };
}

/** Shakes hands, asks for `path`, and gives every byte of HTTP that comes back until the server hangs up. */
function knock(identity: ConnectionOptions, ask = 'GET /v1/hello'): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = '';
    let isThrough = false;
    const socket = connect({
      host: '127.0.0.1',
      port: host.server.port,
      servername: 'host-b',
      rejectUnauthorized: false,
      ...identity,
    });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error('the server did not hang up'));
    }, 5000);
    socket.on('secureConnect', () => {
      isThrough = true;
      socket.write(`${ask} HTTP/1.1\r\nhost: b\r\nunderstudy-wire: 1\r\nconnection: close\r\n\r\n`);
    });
    socket.on('data', (data) => (heard += data.toString('latin1')));
    socket.on('error', (error) => (isThrough ? undefined : reject(error))); // a reset is a way to hang up
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(heard);
    });
  });
}

async function identity(
  authority: KeyAndCertificate,
  name: string,
  validity = days(-1, 10),
): Promise<ConnectionOptions> {
  const leaf = await makeLeaf(authority, [name], validity);
  return { cert: leaf.certificate, key: leaf.key };
}

test('a paired peer gets its answer', async () => {
  assert.match(await knock(await identity(ca, 'host-a')), /^HTTP\/1\.1 200 OK/);
  assert.deepEqual(refusals, []);
});

test('a host of wire version 0 is told what is spoken here, and nothing else', async () => {
  const own = await identity(ca, 'host-a');
  assert.match(await knock(own, 'GET /v0/hello'), /^HTTP\/1\.1 200 OK[^]*"wires":\[1\]/);
  assert.match(await knock(own, 'GET /v0/replicas/r1'), /^HTTP\/1\.1 404/);
});

const strangers: [string, string, () => Promise<ConnectionOptions>][] = [
  ['without a certificate', 'no-certificate', () => Promise.resolve({})],
  [
    'of an unknown authority',
    'unknown-authority',
    async () => identity(await makeAuthority('host-a', days(-1, 100)), 'host-a'),
  ],
  ['with an expired certificate', 'expired', () => identity(ca, 'host-a', days(-10, -1))],
  ['with a certificate that is not yet valid', 'not-yet-valid', () => identity(ca, 'host-a', days(1, 10))],
  ['with a wrong name', 'wrong-name', () => identity(ca, 'host-x')],
  ['with a wildcard for a name', 'wrong-name', () => identity(ca, '*.host-a')],
  [
    'whose authority is that of another peer',
    'wrong-name',
    async () => {
      const other = await makeAuthority('host-c', days(-1, 100));
      host.peers.add(peer('host-c', other));
      return identity(other, 'host-a');
    },
  ],
  [
    'whose authority is expired',
    'expired',
    async () => {
      const old = await makeAuthority('host-d', days(-100, -1));
      host.peers.add(peer('host-d', old));
      return identity(old, 'host-d', days(-10, 10));
    },
  ],
  [
    'that shows the CA certificate itself',
    'wrong-purpose',
    () => Promise.resolve({ cert: ca.certificate, key: ca.key }),
  ],
  [
    'removed from the book',
    'unknown-authority',
    async () => {
      host.peers.remove('host-a');
      return identity(ca, 'host-a');
    },
  ],
  ['that asks to enrol while no token is out', 'no-certificate', () => Promise.resolve({ servername: ENROLMENT_NAME })],
];
for (const [who, refusal, make] of strangers) {
  test(`a host ${who} gets nothing`, async () => {
    assert.equal(await knock(await make()), '');
    await until(() => refusals.length > 0, { timeoutMs: 5000, onTimeout: () => new Error('nothing was logged') });
    assert.deepEqual(
      refusals.map((line) => line.refusal),
      [refusal],
    );
    assert.deepEqual(host.replica.asked, []);
  });
}

test('TLS 1.2 is not spoken', async () => {
  await assert.rejects(knock({ ...(await identity(ca, 'host-a')), maxVersion: 'TLSv1.2' }), /alert|version/i);
});

test('with a token out, a stranger may knock at the enrolment name and do nothing else there', async () => {
  host.enrolment.issue();
  assert.equal(await knock({}), '', 'other names stay shut');
  const answer = await knock({ servername: ENROLMENT_NAME }, 'GET /v1/replicas/r1');
  assert.match(answer, /^HTTP\/1\.1 403 /);
  assert.match(answer, /"peer-refused"/);
  assert.deepEqual(host.replica.asked, []);
});

test('a new peer counts from the next connection on', async () => {
  const other = await makeAuthority('host-c', days(-1, 100));
  const its = await identity(other, 'host-c');
  assert.equal(await knock(its), '');
  host.peers.add(peer('host-c', other));
  assert.match(await knock(its), /^HTTP\/1\.1 200/);
});

test('the client refuses a server that is not its peer, and says which', async () => {
  const [a, b] = await loopback.pair();
  const impostor = await loopback.host('host-b');
  impostor.peers.add(a.asPeer());
  const misled = a.to(b, { peer: b.asPeer({ address: impostor.address }) });
  await assert.rejects(misled.hello(), isFailure('peer-identity', /is not host-b/));
  await assert.rejects(
    misled.put('r1', { sequence: 1, logId: '0'.repeat(32) }, 0, secrets()),
    isFailure('peer-identity'),
  );
  assert.deepEqual(impostor.replica.asked, []);

  const renamed = a.to(b, { peer: b.asPeer({ name: 'host-z' }) });
  await assert.rejects(renamed.hello(), isFailure('peer-identity', /host-z/));
});

async function* secrets(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('for host-b only');
}

test('a host that refuses us is told apart from one that hung up once', async () => {
  const [a, b] = await loopback.pair();
  const relay = await loopback.relay(b.address);
  const endpoint = a.to(b, { peer: b.asPeer({ address: relay.address }) });
  b.replica.status = () => {
    relay.cut();
    return new Promise(() => undefined);
  };
  await assert.rejects(endpoint.status('r1'), isFailure('interrupted'));
  b.peers.remove('host-a');
  b.server.peersChanged();
  await assert.rejects(endpoint.hello(), isFailure('peer-refused', /host-b/));
});
