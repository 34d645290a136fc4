import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { mock, test } from 'node:test';
import { eventStream } from './event-stream.ts';

void test('a source that is silent for days has a sign of life sent now and then, and nothing is left hanging on it', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  const stop = new AbortController();
  const item = Promise.withResolvers<IteratorResult<string>>();
  const reactions = t.mock.method(item.promise, 'then');
  const source = { [Symbol.asyncIterator]: () => ({ next: () => item.promise }) };
  const stream = eventStream(source, stop.signal);
  await stream.next();
  for (let sign = 0; sign < 1000; sign++) {
    const next = stream.next();
    mock.timers.tick(10_000);
    assert.deepEqual(await next, { done: false, value: ': alive\n\n' });
  }
  assert.ok(reactions.mock.callCount() <= 2, `${reactions.mock.callCount()} reactions`);
  assert.deepEqual(getEventListeners(stop.signal, 'abort'), []);
  const next = stream.next();
  item.resolve({ done: false, value: 'at last' });
  assert.deepEqual(await next, { done: false, value: 'event: item\ndata: "at last"\n\n' });
});

void test('a stream ends quietly when it is given up, and says what its source failed of', async () => {
  const stop = new AbortController();
  const never = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) };
  const given = eventStream(never, stop.signal);
  await given.next();
  const last = given.next();
  stop.abort(new Error('gone'));
  assert.equal((await last).done, true);

  const failing = { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject<never>(new Error('broken')) }) };
  const broken = eventStream(failing, new AbortController().signal);
  await broken.next();
  assert.match(String((await broken.next()).value), /^event: failure\n/);
});
