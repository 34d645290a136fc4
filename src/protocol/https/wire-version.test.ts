/** Hosts of different versions of the wire, over real connections. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { silentLog } from '../../lib/log.ts';
import { Failure } from '../../model/failure.ts';
import { PeerServer } from './server.ts';
import { isFailure, LOG, Loopback, POSITION, type TestHost } from './loopback.fixture.ts';
import { commonWire } from './wire-version.ts';

let loopback: Loopback;
beforeEach(() => (loopback = new Loopback()));
afterEach(() => loopback.close());

async function pair(wiresOfB: readonly number[]): Promise<[TestHost, TestHost]> {
  const [a, b] = [await loopback.host('host-a'), await loopback.host('host-b', { wires: wiresOfB })];
  a.peers.add(b.asPeer());
  b.peers.add(a.asPeer());
  return [a, b];
}

const ours = { name: 'host-a', version: '1.0.0', wires: [2, 1] };
const theirs = (...wires: number[]) => ({ name: 'host-b', version: '2.0.0', wires });

void test('the newest that both know', () => {
  assert.equal(commonWire(ours, theirs(1)), 1);
  assert.equal(commonWire(ours, theirs(3, 2, 1)), 2);
});

void test('without a common one both are named, and who is to be upgraded', () => {
  const fails = (...wires: number[]): Failure => {
    try {
      commonWire(ours, theirs(...wires));
    } catch (error) {
      if (error instanceof Failure) return error;
    }
    return assert.fail('they have one in common');
  };
  const { code, message, hint } = fails(4, 3);
  assert.equal(code, 'format-unknown');
  assert.match(
    message,
    /^host-a \(understudy 1\.0\.0, wire version 2, 1\) and host-b \(understudy 2\.0\.0, wire version 4, 3\)/,
  );
  assert.match(hint, /Upgrade understudy on host-a/);
  assert.match(fails(0).hint, /Upgrade understudy on host-b/);
});

void test('a newer host that still speaks ours is spoken to in ours', async () => {
  const [a, b] = await pair([2, 1]);
  const endpoint = a.to(b);
  assert.equal((await endpoint.status('r1')).state, 'Replicating');
  assert.deepEqual((await endpoint.hello()).wires, [2, 1]);
  // and where both know the newer one, that is what goes over the wire: a server of 2 alone takes it
  const [c, d] = await pair([2]);
  assert.equal((await c.to(d, { wires: [1, 2] }).status('r1')).state, 'Replicating');
});

void test('a host of the next version is refused in words, before anything is asked of it', async () => {
  const [a, b] = await pair([2]);
  const words = /host-a \(understudy .*, wire version 1\) and host-b \(understudy .*, wire version 2\) have no version/;
  const endpoint = a.to(b);
  const body = async function* () {
    yield await Promise.resolve(Buffer.from('log'));
  };
  await assert.rejects(endpoint.status('r1'), isFailure('format-unknown', words));
  await assert.rejects(endpoint.confirm('r1', POSITION, 0), isFailure('format-unknown', words));
  await assert.rejects(endpoint.put('r1', LOG, 0, body()), isFailure('format-unknown', words));
  assert.deepEqual(b.replica.asked, []);
  await assert.rejects(endpoint.hello(), isFailure('format-unknown', words));
});

void test('a peer that is upgraded meanwhile is asked again', async () => {
  const [a, b] = await pair([2]);
  const endpoint = a.to(b);
  await assert.rejects(endpoint.status('r1'), isFailure('format-unknown'));
  await b.server.close();
  const { authority, peers, enrolment } = b;
  const port = Number(b.address.split(':')[1]);
  const options = { host: '127.0.0.1', port, authority, peers, enrolment, version: '2', log: silentLog() };
  const restarted = await PeerServer.listen({ ...options, endpoint: () => b.replica });
  try {
    assert.equal((await endpoint.status('r1')).state, 'Replicating');
  } finally {
    await restarted.close();
  }
});

void test('who gives up does not wait for the other side to say its version', async () => {
  const [a, b] = await pair([1]);
  const mute = createServer().listen(0, '127.0.0.1');
  await once(mute, 'listening');
  const { port } = mute.address() as AddressInfo;
  const silent = a.to(b, { peer: b.asPeer({ address: `127.0.0.1:${port}` }) });
  const stop = new AbortController();
  const put = silent.put('r1', LOG, 0, (async function* () {})(), stop.signal);
  const [connection] = (await once(mute, 'connection')) as [Socket];
  stop.abort(new Failure('interrupted', 'enough'));
  await assert.rejects(put, isFailure('interrupted', /enough/)); // not `unreachable`, when the connection is given up
  connection.destroy();
  mute.close();
  await once(mute, 'close');
});
