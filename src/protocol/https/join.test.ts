import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, beforeEach, test } from 'node:test';
import { createServer } from 'node:tls';
import { Failure } from '../../model/failure.ts';
import { openAuthority } from '../../security/authority.ts';
import { printToken, readToken } from '../../security/token.ts';
import { join } from './join.ts';
import { isFailure, Loopback, MemoryPeers, type TestHost } from './loopback.fixture.ts';

let loopback: Loopback;
let a: TestHost;
let b: TestHost;
beforeEach(async () => {
  loopback = new Loopback();
  a = await loopback.host('host-a');
  b = await loopback.host('host-b');
});
afterEach(() => loopback.close());

const joining = (host: TestHost, token: string): Parameters<typeof join>[0] => ({
  token,
  authority: host.authority,
  address: host.address,
  peers: host.peers,
});

test('a token pairs two hosts, both ways', async () => {
  const { token } = b.enrolment.issue();
  const peer = await join(joining(a, token));
  assert.deepEqual(peer, b.asPeer());
  assert.deepEqual(a.peers.list(), [b.asPeer()]);
  assert.deepEqual(b.peers.list(), [a.asPeer()]);
  assert.equal((await a.to(b).hello()).name, 'host-b');
  assert.equal((await b.to(a).hello()).name, 'host-a');
});

test('a token works once; a new one pairs the same hosts again', async () => {
  const { token } = b.enrolment.issue();
  await join(joining(a, token));
  await assert.rejects(join(joining(a, token)), isFailure('token-invalid'));
  const c = await loopback.host('host-c');
  await assert.rejects(join(joining(c, token)), isFailure('token-invalid'));
  assert.equal(b.peers.get('host-c'), undefined);
  await join(joining(a, b.enrolment.issue().token));
  assert.deepEqual(b.peers.list(), [a.asPeer()]);
});

test('a wrong secret pairs nobody', async () => {
  const token = readToken(b.enrolment.issue().token);
  const forged = printToken({ ...token, secret: Buffer.alloc(16) });
  await assert.rejects(join(joining(a, forged)), isFailure('token-invalid', /proof is wrong/));
  assert.deepEqual([a.peers.list(), b.peers.list()], [[], []]);
});

test('another authority under a known name is refused, until the peer was removed', async () => {
  await join(joining(a, b.enrolment.issue().token));
  const reinstalled = await openAuthority(await loopback.directory(), { hostName: 'host-a', addresses: [] });
  const again = { ...joining(a, b.enrolment.issue().token), authority: reinstalled, peers: new MemoryPeers() };
  await assert.rejects(join(again), isFailure('already-exists', /host-a/));
  assert.deepEqual(b.peers.list(), [a.asPeer()]);
  b.peers.remove('host-a');
  await join(again);
  assert.equal(b.peers.get('host-a')?.caFingerprint, reinstalled.caFingerprint);
});

test('a man in the middle with a CA of his own is noticed before he learns anything', async () => {
  const middle = await loopback.host('host-b');
  middle.enrolment.issue(); // his door stands open
  const token = readToken(b.enrolment.issue().token);
  const misled = printToken({ ...token, address: middle.address });
  await assert.rejects(join(joining(a, misled)), isFailure('peer-identity'));
  assert.deepEqual([a.peers.list(), middle.peers.list()], [[], []]);
});

test('a man in the middle who shows the right CA beside a certificate of his own is noticed, too', async () => {
  const own = (await openAuthority(await loopback.directory(), { hostName: 'host-b', addresses: [] })).credentials;
  const leaf = /^[^]+?-----END CERTIFICATE-----/.exec(own.chain)?.[0];
  let heard = 0;
  const server = createServer({ cert: `${leaf}\n${b.authority.caCertificate}`, key: own.key }, (socket) => {
    socket.on('data', (data) => (heard += data.length)).on('error', () => undefined);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as { port: number };
    const token = printToken({ ...readToken(b.enrolment.issue().token), address: `127.0.0.1:${port}` });
    await assert.rejects(join(joining(a, token)), isFailure('peer-identity'));
    assert.equal(heard, 0);
  } finally {
    server.close();
  }
});

test('a host does not pair with itself, nor with a host of its own name', async () => {
  await assert.rejects(join(joining(a, a.enrolment.issue().token)), isFailure('bad-request', /this host/));
  const twin = await loopback.host('host-a');
  await assert.rejects(join(joining(twin, a.enrolment.issue().token)), isFailure('bad-request', /host-a is this host/));
});

test('nobody at the address: `unreachable`; rubbish for a token: `token-invalid`', async () => {
  const token = readToken(b.enrolment.issue().token);
  await assert.rejects(join(joining(a, printToken({ ...token, address: '127.0.0.1:1' }))), isFailure('unreachable'));
  for (const rubbish of ['', 'hello', 'understudy1.', 'understudy1.e30', printToken(token).slice(0, -9)]) {
    await assert.rejects(join(joining(a, rubbish)), isFailure('token-invalid'));
  }
  await assert.rejects(join(joining(a, 'understudy9.abc')), (error) => (error as Failure).code === 'format-unknown');
});
