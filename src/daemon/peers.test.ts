/** Peers that come back, over real connections. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { after, afterEach, beforeEach, test } from 'node:test';
import { Lanes } from '../lanes/lanes.ts';
import { Failure } from '../model/failure.ts';
import { LOG, Loopback, type TestHost } from '../protocol/https/loopback.fixture.ts';
import { sendLog } from '../primary/send.ts';
import type { Sendable } from '../primary/outbox.ts';
import { PeerEndpoints } from './peers.ts';

const lanes = new Lanes(1);
let loopback: Loopback;
let a: TestHost;
let b: TestHost;
let endpoints: PeerEndpoints;
let back: string[];

beforeEach(async () => {
  loopback = new Loopback();
  [a, b] = await loopback.pair();
  back = [];
  endpoints = new PeerEndpoints(a.authority, lanes, a.peers, (name) => back.push(name));
});
after(() => lanes.close());
afterEach(async () => {
  await endpoints.close();
  await loopback.close();
});

/** Lets the peer's address be one where nobody listens, until the function it gives is called. */
async function unplug(): Promise<() => void> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  a.peers.add(b.asPeer({ address: `127.0.0.1:${port}` }));
  return () => a.peers.add(b.asPeer());
}

void test('the first answer after silence is told, once, whoever hears it', async () => {
  const one = endpoints.get('host-b');
  await one.status('r1');
  const plug = await unplug();
  await assert.rejects(one.status('r1'), { code: 'unreachable' });
  await assert.rejects(endpoints.hello('host-b'), { code: 'unreachable' });
  assert.deepEqual(back, []);
  plug();
  await endpoints.hello('host-b');
  await one.status('r1');
  assert.deepEqual(back, ['host-b']);
});

void test('a refusal is an answer, too', async () => {
  const plug = await unplug();
  await assert.rejects(endpoints.get('host-b').status('r1'), { code: 'unreachable' });
  plug();
  b.replica.status = () => Promise.reject(new Failure('no-space', 'full'));
  await assert.rejects(endpoints.get('host-b').status('r1'), { code: 'no-space' });
  assert.deepEqual(back, ['host-b']);
});

void test('a host that is not paired is neither silent nor back', async () => {
  assert.throws(() => endpoints.get('host-c'), { code: 'not-found' });
  await assert.rejects(endpoints.following('host-c').status('r1'), { code: 'not-found' });
  assert.deepEqual(back, []);
});

const log: Sendable = {
  ...LOG,
  async *from(offset: number) {
    yield await Promise.resolve(Buffer.from('delta log').subarray(offset));
  },
};

/** Sends a log with waits of half an hour: only what wakes it lets it end. */
function send(signal: AbortSignal, onTrouble: (failure: Failure | undefined) => void): Promise<unknown> {
  const progress = { sent: 0, resent: 0, breaks: 0 };
  const endpoint = endpoints.following('host-b');
  return sendLog(endpoint, log, {
    relationship: 'r1',
    fresh: false,
    intervalSeconds: 86_400,
    signal,
    progress,
    onTrouble,
  });
}

void test('a log that waits to be sent again goes on when another relationship reaches the peer', async () => {
  const plug = await unplug();
  const breaks = Promise.withResolvers<void>();
  let count = 0;
  const sent = send(AbortSignal.timeout(20_000), () => {
    if (++count === 4) breaks.resolve(); // 2 s until the next try
  });
  await breaks.promise;
  plug();
  const waited = performance.now();
  await endpoints.get('host-b').status('another');
  await sent;
  assert.ok(performance.now() - waited < 1500, 'it did not wait for its own time');
  assert.equal(Buffer.concat(b.replica.received).toString(), 'delta log');
});

void test('a full replica is not asked again because somebody else is answered', async () => {
  let asked = 0;
  b.replica.put = async (_id, _log, _offset, body) => {
    asked++;
    for await (const _ of body) void _;
    throw new Failure('no-space', 'No room on /srv');
  };
  const stop = new AbortController();
  const full = Promise.withResolvers<Failure | undefined>();
  const sent = send(stop.signal, full.resolve);
  assert.equal((await full.promise)?.code, 'no-space');
  const plug = await unplug();
  await assert.rejects(endpoints.get('host-b').status('another'));
  plug();
  for (let i = 0; i < 5; i++) await endpoints.get('host-b').status('another');
  assert.equal(asked, 1, 'it waits for its minute');
  stop.abort(new Failure('interrupted', 'over'));
  await assert.rejects(sent, { code: 'interrupted' });
});
