import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { pause } from './clock.ts';
import { Wake } from './wake.ts';

const HOUR_MS = 3_600_000;

void test('ten thousand waits that end by time leave nothing behind', async () => {
  const wake = new Wake();
  const signals = Array.from({ length: 10_000 }, () => new AbortController().signal);
  const waits = Promise.all(signals.map((signal) => pause(1, [wake], signal)));
  assert.equal(wake.listeners, 10_000);
  await waits;
  assert.equal(wake.listeners, 0);
  assert.ok(signals.every((signal) => getEventListeners(signal, 'abort').length === 0));
});

void test('a call ends every wait of that moment, and none that begins later', async () => {
  const [one, other] = [new Wake(), new Wake()];
  const { signal } = new AbortController();
  const waits = [pause(HOUR_MS, [one], signal), pause(HOUR_MS, [other, one], signal)];
  one.call();
  await Promise.all(waits);
  let over = false;
  const later = pause(5, [one], signal).then(() => (over = true));
  assert.equal(over, false);
  await later;
  assert.equal(one.listeners + other.listeners, 0);
});

void test('a wait that is given up throws the reason, and leaves nothing behind', async () => {
  const wake = new Wake();
  const stop = new AbortController();
  const wait = pause(HOUR_MS, [wake], stop.signal);
  stop.abort(new Error('stopping'));
  await assert.rejects(wait, /stopping/);
  await assert.rejects(pause(HOUR_MS, [wake], stop.signal), /stopping/);
  assert.equal(wake.listeners, 0);
});

void test('who listens is called at each call until it ends that', () => {
  const wake = new Wake();
  const heard: number[] = [];
  const listener = (): void => void heard.push(heard.length);
  const ends = [wake.listen(listener), wake.listen(listener)];
  wake.call();
  ends[0]!();
  wake.call();
  assert.equal(heard.length, 3);
  ends[1]!();
  wake.call();
  assert.equal(heard.length, 3);
});
