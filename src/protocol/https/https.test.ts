import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, beforeEach, test } from 'node:test';
import { connect } from 'node:tls';
import { Client } from 'undici';
import { until } from '../../lib/clock.ts';
import { Failure } from '../../model/failure.ts';
import type { PrepareReplica } from '../endpoint.ts';
import { isFailure, LOG, Loopback, POSITION } from './loopback.fixture.ts';

let loopback: Loopback;
beforeEach(() => (loopback = new Loopback()));
afterEach(() => loopback.close());

const PREPARE: PrepareReplica = {
  id: 'r1',
  vmId: '0f0e0d0c-0b0a-0908-0706-050403020100',
  vmName: 'shop — database',
  definition: '<domain type="kvm"><name>shop</name></domain>',
  disks: [{ target: 'vda', size: 1 << 30 }],
  epoch: 1,
  intervalSeconds: 5,
  history: 24,
  base: 'empty',
  start: POSITION,
};

async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of body) parts.push(part);
  return Buffer.concat(parts);
}

async function* chunksOf(count: number, size: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) yield new Uint8Array(size).fill(i);
}

test('every call arrives as it was made, and its answer comes back', async () => {
  const [a, b] = await loopback.pair();
  const endpoint = a.to(b);
  const takeOver = { planId: 'p-1', epoch: 2, position: POSITION, start: true };

  assert.deepEqual(await endpoint.prepare(PREPARE), b.replica.answer);
  assert.equal(b.askedAs, 'host-a');
  assert.deepEqual(await endpoint.status('r1'), b.replica.answer);
  assert.equal(await endpoint.durableOffset('r1', LOG), 0);
  assert.deepEqual(await endpoint.put('r1', LOG, 0, chunksOf(3, 1000)), b.replica.answer);
  assert.equal(await endpoint.durableOffset('r1', LOG), 3000);
  await endpoint.confirm('r1', POSITION, 1234);
  assert.deepEqual(await endpoint.digests('r1', { target: 'vda', from: 5, count: 2 }), Buffer.alloc(32, 5));
  await endpoint.digests('r1', { target: 'vda', from: 0, count: 1, reread: true });
  await endpoint.takeOver('r1', takeOver);
  assert.equal(await endpoint.remove('r1', { keepDisks: true }), undefined);
  assert.deepEqual(b.replica.asked, [
    ['prepare', PREPARE],
    ['status', 'r1'],
    ['durableOffset', 'r1', LOG],
    ['put', 'r1', LOG, 0],
    ['durableOffset', 'r1', LOG],
    ['confirm', 'r1', POSITION, 1234],
    ['digests', 'r1', { target: 'vda', from: 5, count: 2 }],
    ['digests', 'r1', { target: 'vda', from: 0, count: 1, reread: true }],
    ['takeOver', 'r1', takeOver],
    ['remove', 'r1', { keepDisks: true }],
  ]);
  assert.deepEqual(
    Buffer.concat(b.replica.received).subarray(990, 1010),
    Buffer.concat([Buffer.alloc(10), Buffer.alloc(10, 1)]),
  );
});

test('hello tells names, versions and the clocks apart', async () => {
  const [a, b] = await loopback.pair();
  const hello = await a.to(b).hello();
  assert.equal(hello.name, 'host-b');
  assert.deepEqual(hello.wires, [1]);
  assert.ok(Math.abs(hello.skewMs) <= hello.roundTripMs);
});

test('a Failure comes back as itself; a bug comes back without its details', async () => {
  const [a, b] = await loopback.pair();
  b.replica.status = () => Promise.reject(new Failure('stale-epoch', 'epoch 3 is newer', { hint: 'look there' }));
  await assert.rejects(a.to(b).status('r1'), (error) => {
    assert.ok(isFailure('stale-epoch', /^epoch 3 is newer$/)(error));
    assert.equal((error as Failure).hint, 'look there');
    assert.equal((error as Failure).retry, 'never');
    return true;
  });
  b.replica.status = () => Promise.reject(new TypeError('secret inner detail'));
  await assert.rejects(a.to(b).status('r1'), (error) => {
    assert.ok(isFailure('internal', /^host-b failed; its log says why/)(error));
    assert.doesNotMatch(JSON.stringify(error), /secret/);
    return true;
  });
});

test('nothing that is not as it must be reaches the replica', async () => {
  const [a, b] = await loopback.pair();
  const endpoint = a.to(b);
  const refused: [string, () => Promise<unknown>][] = [
    ['path as id', () => endpoint.status('../../etc')],
    ['empty id', () => endpoint.status('')],
    ['long id', () => endpoint.status('x'.repeat(65))],
    ['path as target', () => endpoint.digests('r1', { target: '../vda', from: 0, count: 1 })],
    ['too many digests', () => endpoint.digests('r1', { target: 'vda', from: 0, count: 65537 })],
    ['no digests', () => endpoint.digests('r1', { target: 'vda', from: 0, count: 0 })],
    ['negative sequence', () => endpoint.durableOffset('r1', { ...LOG, sequence: -1 })],
    ['log id', () => endpoint.durableOffset('r1', { ...LOG, logId: 'XYZ' })],
    ['fraction as offset', () => endpoint.put('r1', LOG, 0.5, chunksOf(1, 1))],
    ['disk size', () => endpoint.prepare({ ...PREPARE, disks: [{ target: 'vda', size: 2 ** 53 }] })],
    ['same disk twice', () => endpoint.prepare({ ...PREPARE, disks: [...PREPARE.disks, ...PREPARE.disks] })],
    ['name with a slash', () => endpoint.prepare({ ...PREPARE, vmName: 'a/b' })],
    ['unknown field', () => endpoint.prepare({ ...PREPARE, extra: 1 } as PrepareReplica)],
    ['state', () => endpoint.confirm('r1', { ...POSITION, state: 'zz' }, 0)],
  ];
  for (const [what, call] of refused) {
    await assert.rejects(call(), (error) => ['bad-request', 'not-found'].includes((error as Failure).code), what);
  }
  assert.deepEqual(b.replica.asked, []);
  await endpoint.status('r1'); // and the connection goes on
});

test('an early refusal of an upload is heard while sending, and sending stops', async () => {
  const [a, b] = await loopback.pair();
  b.replica.put = async (_id, _log, _offset, body) => {
    for await (const chunk of body) {
      assert.ok(chunk.length > 0);
      throw new Failure('no-space', 'full at 1 chunk');
    }
    return b.replica.answer;
  };
  let taken = 0;
  let returned = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        taken++;
        yield new Uint8Array(256 * 1024);
      }
    } finally {
      returned = true;
    }
  }
  for (let round = 0; round < 20; round++) {
    await assert.rejects(a.to(b).put('r1', LOG, 0, endless()), isFailure('no-space'));
    await until(() => returned, { timeoutMs: 2000, onTimeout: () => new Error('the source was not ended') });
    returned = false;
  }
  assert.ok(taken < 20 * 200, `${taken} chunks were taken`);
});

test('a refusal is heard while the source of the upload has nothing to send', async () => {
  const [a, b] = await loopback.pair();
  b.replica.put = () => Promise.reject(new Failure('stale-epoch', 'taken over'));
  async function* stuck(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(10);
    await new Promise(() => undefined);
  }
  await assert.rejects(a.to(b).put('r1', LOG, 0, stuck()), isFailure('stale-epoch'));
});

test('an error of the source is told as itself, and the upload does not look whole', async () => {
  const [a, b] = await loopback.pair();
  let end: unknown;
  b.replica.put = async (_id, _log, _offset, body) => {
    try {
      for await (const chunk of body) assert.ok(chunk);
      end = 'whole';
    } catch (error) {
      end = (error as Failure).code;
    }
    return b.replica.answer;
  };
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(100_000);
    throw new Failure('io', 'outbox unreadable');
  }
  await assert.rejects(a.to(b).put('r1', LOG, 0, failing()), isFailure('io', /outbox/));
  await until(() => end !== undefined, { timeoutMs: 2000, onTimeout: () => new Error('upload never ended') });
  assert.equal(end, 'interrupted');
});

test('a cut connection is `interrupted`, and sending goes on at the durable offset', async () => {
  const [a, b] = await loopback.pair();
  const relay = await loopback.relay(b.address);
  const endpoint = a.to(b, { peer: b.asPeer({ address: relay.address }) });
  const total = 64;
  async function* fromChunk(first: number, cutAt: number): AsyncGenerator<Uint8Array> {
    for (let i = first; i < total; i++) {
      if (i === cutAt) {
        await until(() => b.replica.size > 0, { timeoutMs: 5000, onTimeout: () => new Error('nothing arrived') });
        relay.cut();
      }
      yield new Uint8Array(65536).fill(i);
    }
  }
  await assert.rejects(endpoint.put('r1', LOG, 0, fromChunk(0, 40)), isFailure('interrupted'));
  const durable = await endpoint.durableOffset('r1', LOG);
  assert.ok(durable > 0 && durable < total * 65536);
  async function* rest(): AsyncGenerator<Uint8Array> {
    yield (await collect(fromChunk(0, -1))).subarray(durable);
  }
  await endpoint.put('r1', LOG, durable, rest());
  assert.deepEqual(Buffer.concat(b.replica.received), await collect(fromChunk(0, -1)));
});

test('a put can be aborted, even while its source waits; the replica hears of it', async () => {
  const [a, b] = await loopback.pair();
  const abort = new AbortController();
  let heard: unknown;
  b.replica.put = async (_id, _log, _offset, body, signal) => {
    signal?.addEventListener('abort', () => (heard = signal.reason));
    for await (const chunk of body) assert.ok(chunk);
    return b.replica.answer;
  };
  async function* stuck(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(10);
    setImmediate(() => abort.abort(new Failure('busy', 'paused by a person')));
    await new Promise(() => undefined);
  }
  await assert.rejects(a.to(b).put('r1', LOG, 0, stuck(), abort.signal), isFailure('busy', /paused/));
  await until(() => heard !== undefined, { timeoutMs: 2000, onTimeout: () => new Error('not told') });
  assert.ok(isFailure('interrupted')(heard));
});

test('nobody there: `unreachable`; removed from the book during a request: cut at once, `peer-refused` until paired again', async () => {
  const [a, b] = await loopback.pair();
  await assert.rejects(
    a.to(b, { peer: b.asPeer({ address: '127.0.0.1:1' }) }).status('r1'),
    isFailure('unreachable', /host-b \(127\.0\.0\.1:1\)/),
  );
  b.replica.status = async () => {
    setImmediate(() => b.server.peersChanged());
    b.peers.remove('host-a');
    return new Promise(() => undefined);
  };
  const endpoint = a.to(b);
  await assert.rejects(endpoint.status('r1'), isFailure('peer-refused'));
  b.peers.add(a.asPeer());
  await endpoint.hello();
});

test('a request of another wire version is refused, naming both', async () => {
  const [a, b] = await loopback.pair();
  const { chain, key } = a.authority.credentials;
  const client = new Client(`https://${b.address}`, {
    connect: {
      ca: b.authority.caCertificate,
      cert: chain,
      key,
      servername: 'host-b',
      checkServerIdentity: () => undefined,
    },
  });
  try {
    const answer = await client.request({
      method: 'GET',
      path: '/v1/replicas/r1',
      headers: { 'understudy-wire': '7' },
    });
    assert.equal(answer.statusCode, 422);
    assert.match(((await answer.body.json()) as { message: string }).message, /wire version 7, this host 1/);
  } finally {
    await client.destroy();
  }
});

test('a log whose rest is empty is put all the same: its acknowledgement was lost', async () => {
  const [a, b] = await loopback.pair();
  assert.deepEqual(await a.to(b).put('r1', LOG, 0, chunksOf(0, 0)), b.replica.answer);
  assert.deepEqual(await a.to(b).put('r1', LOG, 0, chunksOf(2, 0)), b.replica.answer);
  assert.equal(b.replica.size, 0);
});

test('a renewed certificate is shown from the next connection on', async () => {
  const [a] = await loopback.pair();
  let clock = Date.now() - 300 * 24 * 3600 * 1000;
  const old = await loopback.host('host-o', { now: () => clock });
  old.peers.add(a.asPeer());
  await a.to(old).hello();
  const before = old.authority.expires;
  clock = Date.now();
  assert.equal(await old.authority.renewIfDue(), true);
  const socket = connect({ host: '127.0.0.1', port: old.server.port, rejectUnauthorized: false });
  try {
    await once(socket, 'secureConnect');
    const shown = socket.getPeerX509Certificate()?.validToDate.getTime();
    assert.equal(shown, old.authority.expires);
    assert.ok(old.authority.expires > before);
  } finally {
    socket.destroy();
  }
  await a.to(old).hello();
});
