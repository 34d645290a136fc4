/** Uploads over several connections, by real TLS. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, test } from 'node:test';
import { Client } from 'undici';
import { until } from '../../lib/clock.ts';
import { Failure } from '../../model/failure.ts';
import { encodeChunkHead } from './chunk.ts';
import type { HttpsEndpoint } from './client.ts';
import { isFailure, LOG, Loopback, type TestHost } from './loopback.fixture.ts';
import { Pace } from './pace.ts';
import { WIRE_HEADER, WIRES } from './wire.ts';

const MIB = 1024 * 1024;
let loopback: Loopback;
let a: TestHost;
let b: TestHost;
beforeEach(async () => {
  loopback = new Loopback();
  [a, b] = await loopback.pair({ silenceMs: 2000 });
});
afterEach(() => loopback.close());

/** Puts it by four connections from the beginning on. */
function put(endpoint: HttpsEndpoint, offset: number, body: AsyncIterable<Uint8Array>, signal?: AbortSignal) {
  const pace = new Pace(6, 100 * MIB);
  assert.equal(pace.strands, 4);
  return endpoint.putByStrands('r1', LOG, offset, body, {
    pace,
    tickMs: 60_000,
    signal: signal ?? new AbortController().signal,
  });
}

/** Has `from` ask the server of `to`, past its client; gives the failure that is the answer. */
async function ask(from: TestHost, to: TestHost, path: string, chunks: readonly Buffer[]): Promise<{ code?: string }> {
  const { chain, key } = from.authority.credentials;
  const tls = { ca: to.authority.caCertificate, cert: chain, key, servername: to.name };
  const client = new Client(`https://${to.address}`, { connect: { ...tls, checkServerIdentity: () => undefined } });
  try {
    const headers = { [WIRE_HEADER]: String(WIRES[0]) };
    const answer = await client.request({ method: 'PUT', path, headers, body: Buffer.concat(chunks) });
    return (await answer.body.json()) as { code?: string };
  } finally {
    await client.close();
  }
}

async function* inParts(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 200_000) yield await Promise.resolve(bytes.subarray(at, at + 200_000));
}

test('a log arrives whole by several connections, from any offset', async () => {
  const relay = await loopback.relay(b.address);
  const endpoint = a.to(b, { peer: b.asPeer({ address: relay.address }) });
  await endpoint.hello();
  assert.equal(relay.open, 1);
  const whole = randomBytes(24 * MIB + 77);
  b.replica.received.push(whole.subarray(0, 1234));
  let most = 0;
  const body = async function* (): AsyncGenerator<Buffer> {
    for await (const part of inParts(whole.subarray(1234))) {
      most = Math.max(most, relay.open);
      yield part;
    }
  };
  assert.deepEqual(await put(endpoint, 1234, body()), b.replica.answer);
  assert.ok(Buffer.concat(b.replica.received).equals(whole));
  assert.ok(most >= 4, `${most}`);
  assert.deepEqual(b.replica.asked.slice(-1), [['put', 'r1', LOG, 1234]]);
});

test('more connections are added while more is carried, and an empty rest needs none of them', async () => {
  const endpoint = a.to(b);
  const whole = randomBytes(MIB);
  const pace = new Pace(1, 100 * MIB);
  const most = until(() => pace.strands >= 4, { timeoutMs: 10_000, onTimeout: () => new Error('no more were added') });
  let grown = false;
  const over = most.finally(() => (grown = true));
  let sent = 0;
  const body = async function* (): AsyncGenerator<Buffer> {
    for (; !grown; sent += whole.length) yield await Promise.resolve(whole);
  };
  const signal = new AbortController().signal;
  await endpoint.putByStrands('r1', LOG, 0, body(), { pace, tickMs: 50, signal });
  await over;
  assert.equal(b.replica.size, sent);
  await put(endpoint, sent, inParts(Buffer.alloc(0)));
  assert.equal(b.replica.size, sent);
});

test('a refusal is told as it is, whichever connection hears of it first; so are an error of the source and an abort', async () => {
  const endpoint = a.to(b);
  b.replica.put = async (_id, _log, _offset, body) => {
    for await (const part of body) if (part.length > 0) throw new Failure('stale-epoch', 'over');
    return b.replica.answer;
  };
  for (let round = 0; round < 5; round++) {
    await assert.rejects(put(endpoint, 0, inParts(Buffer.alloc(64 * MIB))), isFailure('stale-epoch', /over/));
  }
  let whole = false;
  b.replica.put = async (_id, _log, _offset, body) => {
    for await (const part of body) assert.ok(part);
    whole = true;
    return b.replica.answer;
  };
  const failing = async function* (): AsyncGenerator<Buffer> {
    yield* inParts(Buffer.alloc(4 * MIB));
    throw new Failure('too-much-at-once', 'given up');
  };
  await assert.rejects(put(endpoint, 0, failing()), isFailure('too-much-at-once'));
  const stop = new AbortController();
  const hanging = async function* (): AsyncGenerator<Buffer> {
    yield Buffer.alloc(MIB);
    stop.abort(new Failure('busy', 'paused'));
    await new Promise(() => undefined);
  };
  await assert.rejects(put(endpoint, 0, hanging(), stop.signal), isFailure('busy', /paused/));
  assert.ok(!whole);
});

test('one connection that breaks breaks the upload, and the next goes on from what is durable', async () => {
  const relay = await loopback.relay(b.address);
  const endpoint = a.to(b, { peer: b.asPeer({ address: relay.address }) });
  const whole = randomBytes(32 * MIB);
  const take = b.replica.put;
  let underWay = 0;
  b.replica.put = async (...all) => {
    underWay++;
    return await take(...all).finally(() => underWay--);
  };
  const cutting = async function* (): AsyncGenerator<Buffer> {
    let at = 0;
    for await (const part of inParts(whole)) {
      at += part.length;
      if (at > 16 * MIB && relay.open >= 4) relay.cut(1);
      yield part;
    }
  };
  await assert.rejects(put(endpoint, 0, cutting()), isFailure('interrupted'));
  await until(() => underWay === 0, { timeoutMs: 5000, onTimeout: () => new Error('the replica was not told') });
  const { size } = b.replica;
  assert.ok(size > 0 && size < whole.length, `${size}`);
  assert.ok(Buffer.concat(b.replica.received).equals(whole.subarray(0, size)), 'nothing but what was sent');
  await put(endpoint, size, inParts(whole.subarray(size)));
  assert.ok(Buffer.concat(b.replica.received).equals(whole));
});

test('a connection that dies without a word: given up once the peer answers on another', async () => {
  const relay = await loopback.relay(b.address);
  const endpoint = a.to(b, { peer: b.asPeer({ address: relay.address }), silenceMs: 2000 });
  const endless = async function* (): AsyncGenerator<Buffer> {
    for (let dead = false; ;) {
      if (!dead && relay.open >= 4 && b.replica.size > 8 * MIB) {
        dead = true;
        relay.die(1);
      }
      yield await Promise.resolve(Buffer.alloc(256 * 1024));
    }
  };
  await assert.rejects(put(endpoint, 0, endless()), isFailure('interrupted', /answers on another/));
});

test('a strand that never comes, one that nobody waits for, one of a foreign peer', async () => {
  const name = 'ab'.repeat(16);
  const c = await loopback.host('host-c');
  b.peers.add(c.asPeer());
  c.peers.add(b.asPeer());
  const chunk = (at: number, text: string) => Buffer.concat([encodeChunkHead(at, text.length), Buffer.from(text)]);
  const first = ask(a, b, `/v1/replicas/r1/logs/8/${LOG.logId}?offset=0&upload=${name}`, [
    chunk(0, 'begin '),
    chunk(16, ''),
  ]);
  await until(() => b.replica.size === 6, { timeoutMs: 5000, onTimeout: () => new Error('nothing arrived') });
  const began = performance.now();
  const [foreign, unknown, wrong, own] = await Promise.all([
    ask(c, b, `/v1/replicas/r1/strands/${name}`, [chunk(6, 'his bytes.')]),
    ask(a, b, `/v1/replicas/r1/strands/${'cd'.repeat(16)}`, [chunk(6, 'no upload.')]),
    ask(a, b, `/v1/replicas/r1/strands/short`, [chunk(6, 'no upload.')]),
    ask(a, b, `/v1/replicas/r1/logs/9/${LOG.logId}?offset=0&upload=${name}`, [chunk(0, 'same name')]),
  ]);
  assert.deepEqual(
    [foreign, unknown, wrong, own].map(({ code }) => code),
    ['interrupted', 'interrupted', 'bad-request', 'already-exists'],
  );
  assert.equal((await first).code, 'timeout', 'its second part never came');
  assert.ok(performance.now() - began < 8000);
  assert.equal(Buffer.concat(b.replica.received).toString(), 'begin ');
});
