/** Long uploads: speed, memory, back-pressure, silence. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { createServer } from 'node:tls';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '../../lib/clock.ts';
import type { Failure } from '../../model/failure.ts';
import { isFailure, LOG, Loopback } from './loopback.fixture.ts';

const MiB = 1024 * 1024;
let loopback: Loopback;
beforeEach(() => (loopback = new Loopback()));
afterEach(() => loopback.close());

test('256 MiB go through in bounded memory', async (t) => {
  const [a, b] = await loopback.pair();
  let received = 0;
  b.replica.put = async (_id, _log, _offset, body) => {
    for await (const chunk of body) received += chunk.length;
    return b.replica.answer;
  };
  const chunk = new Uint8Array(MiB);
  let peak = 0; // counts garbage not yet collected, too
  const before = process.memoryUsage().arrayBuffers;
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let i = 0; i < 256; i++) {
      peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
      yield chunk;
    }
  }
  const start = performance.now();
  await a.to(b).put('r1', LOG, 0, body());
  const seconds = (performance.now() - start) / 1000;
  assert.equal(received, 256 * MiB);
  t.diagnostic(
    `${Math.round(256 / seconds)} MiB/s with both ends in this process, buffers peak ${Math.round(peak / MiB)} MiB`,
  );
  assert.ok(peak < 128 * MiB, `${peak} bytes of buffers`);
});

test('a replica that takes nothing holds the sender back', async () => {
  const [a, b] = await loopback.pair();
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  b.replica.put = async (_id, _log, _offset, body) => {
    let size = 0;
    for await (const chunk of body) {
      if (size === 0) await released;
      size += chunk.length;
    }
    assert.equal(size, 64 * MiB);
    return b.replica.answer;
  };
  let taken = 0;
  async function* body(): AsyncGenerator<Uint8Array> {
    for (; taken < 64; taken++) yield new Uint8Array(MiB);
  }
  const put = a.to(b).put('r1', LOG, 0, body());
  let last = -1;
  const settled = async (): Promise<boolean> => {
    const now = taken;
    await delay(200);
    const still = now > 0 && now === taken && now === last;
    last = now;
    return still;
  };
  await until(settled, { timeoutMs: 10_000, onTimeout: () => new Error('sending never paused') });
  assert.ok(taken < 40, `${taken} MiB were taken while the replica took none`);
  release();
  await put;
});

test('a peer that accepts and then says nothing ends in `timeout`, a source that is slow does not', async () => {
  const [a, b] = await loopback.pair();
  const { chain, key } = b.authority.credentials;
  const mute = createServer({ cert: chain, key }, (socket) => socket.on('error', () => undefined)).listen(
    0,
    '127.0.0.1',
  );
  await once(mute, 'listening');
  try {
    const address = `127.0.0.1:${(mute.address() as AddressInfo).port}`;
    const endpoint = a.to(b, { peer: b.asPeer({ address }), silenceMs: 300 });
    await assert.rejects(endpoint.status('r1'), isFailure('timeout', /no sign of life for 0.3 s/));
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield new Uint8Array(MiB);
    }
    await assert.rejects(endpoint.put('r1', LOG, 0, endless()), isFailure('timeout'));
    await endpoint.close();
  } finally {
    mute.close();
  }
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(1);
    await delay(900);
    yield new Uint8Array(1);
  }
  await a.to(b, { silenceMs: 300 }).put('r1', LOG, 0, slow());
  assert.equal(b.replica.size, 2);
});

test('a connection that died without a word is given up once the peer answers on another', async () => {
  const [a, b] = await loopback.pair({ silenceMs: 3000 });
  const relay = await loopback.relay(b.address);
  const endpoint = a.to(b, { peer: b.asPeer({ address: relay.address }), silenceMs: 3000 });
  const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
  b.replica.put = async (_id, _log, _offset, body) => {
    for await (const chunk of body) if (chunk.length > 0) arrive();
    return b.replica.answer;
  };
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) yield new Uint8Array(MiB);
  }
  const put = assert.rejects(endpoint.put('r1', LOG, 0, endless()), isFailure('interrupted', /answers on another/));
  await arrived;
  relay.die();
  const died = performance.now();
  await put;
  assert.ok(performance.now() - died < 2500, 'before anybody has lost patience');
});

test('the server gives up an upload that brings nothing, but not one that the replica is slow to take', async () => {
  const [a, b] = await loopback.pair({ silenceMs: 300 });
  b.replica.put = async (_id, _log, _offset, body) => {
    for await (const chunk of body) {
      assert.ok(chunk);
      await delay(700);
    }
    return b.replica.answer;
  };
  await a.to(b).put(
    'r1',
    LOG,
    0,
    (async function* () {
      yield new Uint8Array(10);
    })(),
  );
  let heard: unknown;
  b.replica.put = async (_id, _log, _offset, body) => {
    try {
      for await (const chunk of body) assert.ok(chunk);
    } catch (error) {
      heard = error;
      throw error;
    }
    return b.replica.answer;
  };
  async function* stalled(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(10);
    await new Promise(() => undefined);
  }
  await assert.rejects(a.to(b).put('r1', LOG, 0, stalled()), isFailure('interrupted'));
  assert.ok(isFailure('timeout', /No byte/)(heard));
});

test('a replica that takes long to answer is not taken for a dead one', async () => {
  const [a, b] = await loopback.pair({ silenceMs: 300 });
  b.replica.takeOver = async () => {
    await delay(900);
    return b.replica.answer;
  };
  const request = { planId: 'p', epoch: 2, position: b.replica.answer.received, start: true };
  await a.to(b, { silenceMs: 300 }).takeOver('r1', request);
});

test('a server closes at once, whatever its visitors are at', async () => {
  const [a, b] = await loopback.pair();
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  b.replica.status = () => {
    start();
    return new Promise(() => undefined);
  };
  const silent = connect(b.server.port, '127.0.0.1').on('error', () => undefined);
  await once(silent, 'connect');
  const asking = assert.rejects(a.to(b).status('r1'), (error) =>
    ['interrupted', 'unreachable'].includes((error as Failure).code),
  );
  await started;
  const begin = performance.now();
  await b.server.close();
  assert.ok(performance.now() - begin < 2000);
  silent.destroy();
  await asking;
});
