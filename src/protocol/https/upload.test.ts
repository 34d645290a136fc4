/** Logs that a lane sends from their files, over real connections. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { Lanes } from '../../lanes/lanes.ts';
import { until } from '../../lib/clock.ts';
import { Failure } from '../../model/failure.ts';
import type { LogBody } from '../endpoint.ts';
import { isFailure, LOG, Loopback, type TestHost } from './loopback.fixture.ts';

const MIB = 1024 * 1024;
const lanes = new Lanes(1);
let loopback: Loopback;
let a: TestHost;
let b: TestHost;
let path: string;
beforeEach(async () => {
  loopback = new Loopback();
  [a, b] = await loopback.pair();
  path = join(await loopback.directory(), 'log');
});
afterEach(() => loopback.close());
after(() => lanes.close());

/** A log in a file, which nobody may read here. */
function inFile(moreThan: (have: number) => Promise<number | null>, expected = 8 * MIB): LogBody & { sum: number } {
  const body = {
    sum: 0,
    file: { path, expected, moreThan, taken: (bytes: number) => void (body.sum += bytes) },
    [Symbol.asyncIterator]: () => assert.fail('iterated'),
  };
  return body;
}

void test('a log arrives from its file while it grows, from any offset, and what was taken is counted', async () => {
  const whole = randomBytes(5 * MIB + 77);
  await writeFile(path, whole.subarray(0, MIB));
  b.replica.received.push(whole.subarray(0, 1234));
  const body = inFile(async (have) => {
    if (have < MIB) return MIB;
    if (have === MIB) await appendFile(path, whole.subarray(MIB));
    return have < whole.length ? whole.length : null;
  });
  assert.deepEqual(await a.to(b, { lanes }).put('r1', LOG, 1234, body), b.replica.answer);
  assert.ok(Buffer.concat(b.replica.received).equals(whole));
  assert.equal(body.sum, whole.length - 1234);
  assert.equal(lanes.busy, 0);
});

void test('what is short is not worth a lane', async () => {
  await writeFile(path, randomBytes(1000));
  const body: LogBody = {
    ...inFile(() => assert.fail('asked'), 1000),
    async *[Symbol.asyncIterator]() {
      yield await Promise.resolve(new Uint8Array(10));
    },
  };
  await a.to(b, { lanes }).put('r1', LOG, 0, body);
  assert.equal(b.replica.size, 10);
});

void test('a log that is given up, one whose file is shorter than it should be: told as it is, and never whole', async () => {
  await writeFile(path, randomBytes(2 * MIB));
  let whole = false;
  b.replica.put = async (_id, _log, _offset, body) => {
    for await (const chunk of body) assert.ok(chunk);
    whole = true;
    return b.replica.answer;
  };
  const endpoint = a.to(b, { lanes });
  const givenUp = inFile(async (have) => {
    if (have === 0) return MIB;
    throw new Failure('too-much-at-once', 'it was given up');
  });
  await assert.rejects(endpoint.put('r1', LOG, 0, givenUp), isFailure('too-much-at-once', /given up/));
  await assert.rejects(
    endpoint.put(
      'r1',
      LOG,
      0,
      inFile(async () => 3 * MIB),
    ),
    isFailure('io', /ends at/),
  );
  assert.ok(!whole);
});

void test('sending by a lane ends with the reason for which it is aborted, also while it waits for the log', async () => {
  await writeFile(path, randomBytes(MIB));
  const stop = new AbortController();
  const never = Promise.withResolvers<null>();
  const body = inFile(async (have) => (have === 0 ? MIB : await never.promise));
  const put = a.to(b, { lanes }).put('r1', LOG, 0, body, stop.signal);
  const ended = assert.rejects(put, isFailure('busy', /paused/));
  await until(() => body.sum === MIB, { timeoutMs: 5000, onTimeout: () => new Error('nothing was sent') });
  stop.abort(new Failure('busy', 'paused'));
  await ended;
  assert.equal(lanes.busy, 0);
  never.resolve(null);
});

void test('what the replica answers to a lane, and that nobody is there, is told as always', async () => {
  await writeFile(path, randomBytes(2 * MIB));
  const body = () => inFile(async (have) => (have < 2 * MIB ? 2 * MIB : null));
  b.replica.put = async () => {
    throw new Failure('no-space', 'full');
  };
  await assert.rejects(a.to(b, { lanes }).put('r1', LOG, 0, body()), isFailure('no-space'));
  const nowhere = { ...b.asPeer(), address: '127.0.0.1:1' };
  await assert.rejects(a.to(b, { lanes, peer: nowhere }).put('r1', LOG, 0, body()), isFailure('unreachable'));
});
