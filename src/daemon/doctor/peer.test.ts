import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Failure } from '../../model/failure.ts';
import { lookAtPeer } from './look-peer.ts';
import { judgePeer, type PeerFacts } from './peer.ts';

const GOOD: PeerFacts = {
  name: 'b',
  host: 'b.example',
  port: 7443,
  addresses: ['192.0.2.2'],
  connection: true,
  hello: { version: '0.1.0', skewMs: -12, roundTripMs: 0.42 },
};
const verdicts = (facts: PeerFacts) => judgePeer(facts).map(({ subject, severity }) => `${subject}: ${severity}`);

test('a good peer: its name, its port, its answer, its clock', () => {
  assert.deepEqual(verdicts(GOOD), ['peer b: name: ok', 'peer b: port: ok', 'peer b: answer: ok', 'peer b: clock: ok']);
});

test('what fails first is what is cured', () => {
  const { connection: _connection, hello: _hello, ...known } = GOOD;
  const nameless = judgePeer({ ...known, addresses: { error: 'getaddrinfo ENOTFOUND b.example' } });
  assert.deepEqual(
    nameless.map(({ severity, subject }) => [severity, subject]),
    [['critical', 'peer b: name']],
  );
  assert.match(nameless[0]!.cure!, /DNS or \/etc\/hosts.*`advertise` on b/);
  const closed = judgePeer({ ...known, connection: { error: 'connect ECONNREFUSED' } }).at(-1)!;
  assert.deepEqual([closed.severity, closed.subject], ['critical', 'peer b: port']);
  assert.match(closed.cure!, /understudyd runs on b, listens on port 7443, and .* firewall/);
  const stranger = judgePeer({ ...GOOD, hello: new Failure('peer-identity', 'not b').toJSON() }).at(-1)!;
  assert.deepEqual([stranger.severity, stranger.found], ['critical', 'not b']);
});

test('clocks that are apart', () => {
  const clock = (skewMs: number) => judgePeer({ ...GOOD, hello: { version: '1', skewMs, roundTripMs: 1 } }).at(-1)!;
  assert.equal(clock(5000).severity, 'ok');
  assert.match(clock(61_000).found, /^61 s ahead of this host's/);
  assert.match(clock(-61_000).found, /^61 s behind/);
  assert.equal(clock(-61_000).severity, 'warning');
});

test('a look at ports of this host: open, and closed', async () => {
  const server = createServer((connection) => connection.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const hello = { name: 'b', version: '1', wires: [1], time: 0, skewMs: 0, roundTripMs: 1 };
  const peer = { name: 'b', address: `127.0.0.1:${port}` };
  const open = await lookAtPeer(peer, () => Promise.resolve(hello));
  assert.deepEqual(
    [open.addresses, open.connection, open.hello],
    [['127.0.0.1'], true, { version: '1', skewMs: 0, roundTripMs: 1 }],
  );
  const refusal = await lookAtPeer(peer, () => Promise.reject(new Failure('peer-refused', 'who?')));
  assert.equal((refusal.hello as { code: string }).code, 'peer-refused');
  server.close();
  await once(server, 'close');
  const closed = await lookAtPeer(peer, () => Promise.reject(new Error('asked')));
  assert.match((closed.connection as { error: string }).error, /ECONNREFUSED/);
  assert.equal(closed.hello, undefined);
  assert.deepEqual((await lookAtPeer({ name: 'b', address: '[::1]:1' }, () => Promise.resolve(hello))).host, '::1');
});
