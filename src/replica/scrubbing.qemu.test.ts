import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newPlace, newReplica } from '../../test/faults/replica-host.ts';
import { TestPrimary } from '../../test/faults/replica-primary.ts';
import { until } from '../lib/clock.ts';
import type { Replica } from './replica.ts';
import { Replicas } from './replicas.ts';
import { Scrubbing } from './scrubbing.ts';

/** A pass is spread over the half of it: no length beside a test. */
const PASS_SECONDS = 1;
const PASS_MS = PASS_SECONDS * 1000;
const START = Date.UTC(2026, 10, 22);

interface Looked {
  readonly scrubbing: Scrubbing;
  readonly one: Replica;
  readonly other: Replica;
}

/** Two replicas that nobody has looked through yet. */
async function withTwo(options: { passSeconds: number; now: () => number }, work: (looked: Looked) => Promise<void>) {
  const place = await newPlace();
  const { directory, runDirectory, lanes, log } = place.options;
  const replicas = await Replicas.open({ directory, runDirectory, lanes, log });
  const scrubbing = new Scrubbing({ replicas, ...options, log });
  try {
    const [one, other] = [newPrimary('1'), newPrimary('2')];
    const made = { one: await replicas.create(newReplica(one)), other: await replicas.create(newReplica(other)) };
    await work({ scrubbing, ...made });
  } finally {
    await scrubbing.close();
    await replicas.close();
    await place.clear();
  }
}

function newPrimary(digit: string): TestPrimary {
  return new TestPrimary(1, `${digit.repeat(8)}-2222-4333-8444-555555555555`, [{ target: 'vda', size: 2 ** 20 }]);
}

/** A pass that was begun then is over. */
async function passed({ scrub }: Replica, began: number): Promise<void> {
  await until(() => scrub.state.pass === null && scrub.state.last?.began === began, {
    timeoutMs: 60_000,
    onTimeout: () => new Error(`no pass of ${began - START}: ${JSON.stringify(scrub.state)}`),
  });
}

void test('a replica is looked through by itself when that is due, and not before; a clock that is set back does not put it off', async () => {
  let now = START;
  await withTwo({ passSeconds: PASS_SECONDS, now: () => now }, async ({ scrubbing, one, other }) => {
    assert.equal(scrubbing.nextPass(one), START, 'one that was never looked through is due');
    scrubbing.begin();
    await passed(one, START);
    await passed(other, START);
    assert.equal(scrubbing.nextPass(one), START + PASS_MS);
    now = START + PASS_MS - 1;
    await scrubbing.ask(other);
    await passed(other, now);
    assert.equal(one.scrub.state.last?.began, START, 'it is not due yet');
    now = START + PASS_MS;
    await passed(one, now);
    now = START - PASS_MS;
    assert.equal(scrubbing.nextPass(one), now);
    await passed(one, now);
  });
});

void test('passes that nobody wants by themselves are made when they are asked for', async () => {
  await withTwo({ passSeconds: 0, now: () => START }, async ({ scrubbing, one, other }) => {
    assert.equal(scrubbing.nextPass(one), null);
    scrubbing.begin();
    await scrubbing.ask(other);
    await passed(other, START);
    assert.equal(one.scrub.state.last, null);
  });
});
