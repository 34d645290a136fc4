/** Uploads whose bytes stay out of the daemon's own thread, and the thread that takes them. */
import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { HEADER, writeLog } from '../../../test/vectors/delta-logs.ts';
import { newProgress, type Admit, type Landed } from '../../deltalog/landing.ts';
import { workerModule } from '../../lanes/lanes.ts';
import { until } from '../../lib/clock.ts';
import { Failure } from '../../model/failure.ts';
import { isArrival } from '../arrival.ts';
import { isFailure, LOG, Loopback, thread, type TestHost } from './loopback.fixture.ts';

const MiB = 1024 * 1024;
let loopback: Loopback;
let directory: string;
beforeEach(async () => {
  loopback = new Loopback();
  directory = await loopback.directory();
});
afterEach(() => loopback.close());

/** Has what the host is sent written to a file; gives what came of it, and how it stands. */
function landAt(host: TestHost, path: string, admit: Admit) {
  const progress = newProgress();
  const seen: { landed?: Landed } = {};
  host.replica.put = async (_id, { sequence }, offset, body, signal) => {
    assert.ok(isArrival(body));
    const never = new AbortController().signal;
    seen.landed = await body.land({ path, sequence, offset, progress, floor: 0 }, admit, signal ?? never);
    return host.replica.answer;
  };
  return { seen, good: () => Number(Atomics.load(progress, 0)) };
}

async function bigLog(): Promise<string> {
  const path = join(directory, 'sent');
  const data = Buffer.alloc(MiB, 'some text of a guest');
  const changes = Array.from({ length: 24 }, (_, i) => ({ disk: 0, offset: i * MiB, data }));
  await writeLog(path, HEADER, changes, 0);
  return path;
}

void test('an upload is written and verified where it arrives, and admitted before a byte of it is kept', async () => {
  const [a, b] = await loopback.pair();
  const [sent, kept] = [await bigLog(), join(directory, 'kept')];
  let sizeThen = -1;
  const { seen, good } = landAt(b, kept, async (header) => {
    assert.deepEqual(header, HEADER);
    sizeThen = (await stat(kept)).size;
  });
  await a.to(b).put('r1', LOG, 0, createReadStream(sent));
  const bytes = await readFile(sent);
  assert.ok((await readFile(kept)).equals(bytes));
  assert.equal(sizeThen, 0);
  assert.equal(seen.landed?.bytes, bytes.length);
  assert.equal(seen.landed.footer.frames, 24);
  assert.equal(good(), bytes.length);
});

void test('what is not admitted is refused while it is being sent, and nothing of it is kept', async () => {
  const [a, b] = await loopback.pair();
  const kept = join(directory, 'kept');
  landAt(b, kept, () => Promise.reject(new Failure('stale-epoch', 'over')));
  await assert.rejects(a.to(b).put('r1', LOG, 0, createReadStream(await bigLog())), isFailure('stale-epoch', /over/));
  assert.equal((await stat(kept)).size, 0);
});

void test('of a damaged upload the file keeps the good part, in whole frames, and the rest can follow', async () => {
  const [a, b] = await loopback.pair();
  const [sent, kept] = [await bigLog(), join(directory, 'kept')];
  const { good } = landAt(b, kept, () => undefined);
  const whole = await readFile(sent);
  const damaged = Buffer.from(whole);
  damaged[10 * MiB]! ^= 1;
  const put = (bytes: Buffer, offset: number) =>
    a.to(b).put(
      'r1',
      LOG,
      offset,
      (async function* () {
        for (let at = offset; at < bytes.length; at += 100_000) {
          yield await Promise.resolve(bytes.subarray(at, at + 100_000));
        }
      })(),
    );
  await assert.rejects(put(damaged, 0), isFailure('bad-log', /digest/));
  const offset = good();
  assert.ok(offset > 9 * MiB && offset <= 10 * MiB, `${offset}`);
  assert.equal((await stat(kept)).size, offset);
  await put(whole, offset);
  assert.ok((await readFile(kept)).equals(whole));
});

void test('when the thread that serves dies, what is under way breaks and another takes its place', async () => {
  const [a, b] = await loopback.pair();
  const endpoint = a.to(b);
  const { promise: asked, resolve: ask } = Promise.withResolvers<AbortSignal>();
  b.replica.put = (_id, _log, _offset, _body, signal) => {
    ask(signal!);
    return new Promise(() => undefined);
  };
  const put = assert.rejects(endpoint.put('r1', LOG, 0, createReadStream(await bigLog())), (error) =>
    ['interrupted', 'unreachable'].includes((error as Failure).code),
  );
  const signal = await asked;
  const die = {
    module: workerModule(import.meta.url, '../../lanes/trial').replace('.worker.', '.fixture.'),
    name: 'die',
  };
  await assert.rejects(thread.run(die, null), isFailure('internal'));
  await until(() => signal.aborted, { timeoutMs: 5000, onTimeout: () => new Error('the replica was not told') });
  await put;
  const back = (): Promise<boolean> =>
    endpoint.hello().then(
      () => true,
      () => false,
    );
  await until(back, { timeoutMs: 10_000, onTimeout: () => new Error('nobody serves') });
});
