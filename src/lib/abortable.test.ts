import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abortable, orAborted } from './abortable.ts';

const MiB = 1024 * 1024;

async function* chunks(count: number): AsyncGenerator<Buffer> {
  for (let i = 0; i < count; i++) yield await Promise.resolve(Buffer.alloc(MiB));
}

void test('what was given is not held', async () => {
  const before = process.memoryUsage().arrayBuffers;
  let taken = 0;
  let most = 0;
  for await (const chunk of abortable(chunks(512), new AbortController().signal)) {
    taken += chunk.length;
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  assert.equal(taken, 512 * MiB);
  assert.ok(most < 256 * MiB, `${most} bytes`);
});

void test('an abort is felt at once, even where the source says no more', async () => {
  const stop = new AbortController();
  async function* stuck(): AsyncGenerator<number> {
    yield 1;
    await new Promise(() => undefined);
  }
  const seen: number[] = [];
  const reading = async (): Promise<void> => {
    for await (const one of abortable(stuck(), stop.signal)) {
      seen.push(one);
      setImmediate(() => stop.abort(new Error('enough')));
    }
  };
  await assert.rejects(reading(), /enough/);
  assert.deepEqual(seen, [1]);
  await assert.rejects(reading(), /enough/);
});

void test('what is not waited for any more may fail: also when it was given up before it was waited for', async () => {
  const unhandled: unknown[] = [];
  const onUnhandled = (reason: unknown): void => void unhandled.push(reason);
  process.on('unhandledRejection', onUnhandled);
  try {
    for (const early of [true, false]) {
      const stop = new AbortController();
      const work = Promise.withResolvers<void>();
      if (early) stop.abort(new Error('given up'));
      const waiting = assert.rejects(orAborted(work.promise, stop.signal), /given up/);
      stop.abort(new Error('given up'));
      await waiting;
      work.reject(new Error('too late'));
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.deepEqual(unhandled, []);
  } finally {
    process.off('unhandledRejection', onUnhandled);
  }
});
