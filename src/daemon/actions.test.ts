import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { Journal } from '../journal/journal.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import { until } from '../lib/clock.ts';
import { silentLog } from '../lib/log.ts';
import { Failure } from '../model/failure.ts';
import { Actions } from './actions.ts';

/** What the steps of the test's plan have done, and what stands in their way. */
class World {
  readonly log: string[] = [];
  /** Failures that the second step meets, try by try. */
  trouble: Failure[] = [];
  /** The second step waits for it, or until it is told to end. */
  gate: Promise<void> = Promise.resolve();
}

const definition: PlanDefinition<World> = {
  kind: 'two-steps',
  steps: [
    {
      name: 'first',
      run: async (world) => void world.log.push('first'),
      undo: async (world) => void world.log.push('undo first'),
    },
    {
      name: 'second',
      onFailure: ({ code }) => (code === 'bad-request' ? 'undo' : 'stay'),
      run: async (world, _plan, signal) => {
        world.log.push('second');
        const told = once(signal, 'abort').then(() => Promise.reject(new Error('told to end')));
        await Promise.race([world.gate, told]);
        const failure = world.trouble.shift();
        if (failure !== undefined) throw failure;
      },
      undo: async (world) => void world.log.push('undo second'),
    },
  ],
};

const R = 'a relationship';
const UNREACHABLE = () => new Failure('unreachable', 'nobody answers');

let directory: string;
let world: World;
let journal: Journal;
let actions: Actions<World>;
let events: string[];

const open = async () => {
  journal = await Journal.open(directory);
  actions = new Actions({
    journal,
    definitions: [definition],
    context: world,
    log: silentLog(),
    event: (_relationship, _severity, kind, message) => events.push(`${kind}: ${message}`),
  });
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'us-actions-'));
  world = new World();
  events = [];
  await open();
});
afterEach(async () => {
  await actions.close();
  await rm(directory, { recursive: true });
});

async function wait(what: string, condition: () => boolean): Promise<void> {
  await until(condition, { timeoutMs: 10_000, everyMs: 5, onTimeout: () => new Error(what) });
}

void test('an action goes on by itself, and holds its relationship until it ends', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  world.gate = promise;
  const plan = await actions.begin('two-steps', R, {});
  await wait('second', () => world.log.includes('second'));
  await assert.rejects(actions.begin('two-steps', R, {}), { code: 'busy' });
  const elsewhere = actions.finish('two-steps', 'another', {});
  resolve();
  assert.equal((await elsewhere).state, 'done');
  await wait('the end', () => journal.plan(plan.id)?.state === 'done');
  assert.equal(journal.holder(R), undefined);
});

void test('the same id is the same action: begun once, with one end for all who ask', async () => {
  const id = '11111111-2222-4333-8444-555555555555';
  const ends = await Promise.all([actions.finish('two-steps', R, {}, id), actions.finish('two-steps', R, {}, id)]);
  assert.deepEqual(world.log, ['first', 'second']);
  assert.deepEqual(ends[0], ends[1]);
  assert.deepEqual(await actions.finish('two-steps', R, {}, id), ends[0]);
  assert.deepEqual(world.log, ['first', 'second']);
});

void test('an obstacle is shown, tried again later and later, and gone when it is overcome', async () => {
  const person = () => new Failure('wrong-state', 'a person has to act', { hint: 'Do it.' });
  world.trouble = [UNREACHABLE(), UNREACHABLE(), person(), person()];
  const started = performance.now();
  const finishing = actions.finish('two-steps', R, {});
  await wait('an obstacle', () => (journal.holder(R)?.obstacle?.code ?? '') === 'unreachable');
  const plan = await finishing;
  assert.equal(plan.state, 'done');
  assert.equal(plan.obstacle, null);
  assert.deepEqual(world.log, ['first', 'second', 'second', 'second', 'second', 'second']);
  assert.ok(performance.now() - started > 250 + 500 + 1000 + 2000 - 50);
  assert.deepEqual(events, ['action-held-up: two-steps waits: a person has to act. Do it.']);
});

void test('an action that fails for good is taken back, and says why to whoever waits', async () => {
  world.trouble = [new Failure('bad-request', 'never so')];
  await assert.rejects(actions.finish('two-steps', R, {}), { code: 'bad-request', message: 'never so' });
  assert.deepEqual(world.log, ['first', 'second', 'undo second', 'undo first']);
  assert.equal(journal.plans()[0]?.state, 'undone');
});

void test('an action that waits can be given up', async () => {
  world.trouble = Array.from({ length: 100 }, UNREACHABLE);
  const finishing = assert.rejects(actions.finish('two-steps', R, {}), { message: /cancelled/ });
  await wait('an obstacle', () => (journal.holder(R)?.obstacle ?? null) !== null);
  const plan = await actions.giveUp(R);
  assert.equal(plan.state, 'undone');
  assert.deepEqual(world.log.slice(-2), ['undo second', 'undo first']);
  const after = world.log.length;
  await finishing; // its next try finds that it has ended
  assert.equal(world.log.length, after);
  await assert.rejects(actions.giveUp(R), { code: 'wrong-state' });
});

void test('an action is given up in the middle of a step that waits: it is told, and all is taken back', async () => {
  world.gate = new Promise(() => undefined);
  const finishing = assert.rejects(actions.finish('two-steps', R, {}), { message: /cancelled/ });
  await wait('second', () => world.log.includes('second'));
  const started = performance.now();
  const plan = await actions.giveUp(R);
  assert.equal(plan.state, 'undone');
  assert.match(plan.failure?.message ?? '', /cancelled/);
  assert.deepEqual(world.log, ['first', 'second', 'undo second', 'undo first']);
  assert.ok(performance.now() - started < 5000);
  await finishing;
  assert.deepEqual(events, [], 'nothing waits for a person');
});

void test('closing ends a step that waits for others; the plan stays where it is, and goes on in the next run', async () => {
  world.gate = new Promise(() => undefined);
  const plan = await actions.begin('two-steps', R, {});
  await wait('second', () => world.log.includes('second'));
  const started = performance.now();
  await actions.close();
  assert.ok(performance.now() - started < 5000);
  const { state, obstacle, failure } = journal.plan(plan.id)!;
  assert.deepEqual({ state, obstacle, failure }, { state: 'running', obstacle: null, failure: null });
  world.gate = Promise.resolve();
  await open();
  await actions.takeUp();
  assert.equal(journal.plan(plan.id)?.state, 'done');
  assert.deepEqual(world.log, ['first', 'second', 'second']);
});

void test('what was begun before a former run is taken up is not taken up with it', async () => {
  world.trouble = [new Failure('wrong-state', 'a person has to act', { hint: 'Do it.' })];
  const { promise, resolve } = Promise.withResolvers<void>();
  world.gate = promise;
  const plan = await actions.begin('two-steps', R, {});
  await actions.takeUp(); // without waiting for it
  resolve();
  await wait('the end', () => journal.plan(plan.id)?.state === 'done');
  assert.equal(events.length, 1, 'one who carries it out, and tells');
});

void test('closing ends the waiting for another try, and the next run takes up what is left', async () => {
  world.trouble = Array.from({ length: 100 }, UNREACHABLE);
  const plan = await actions.begin('two-steps', R, {});
  await wait('an obstacle', () => journal.plan(plan.id)?.obstacle !== null);
  const started = performance.now();
  await actions.close();
  assert.ok(performance.now() - started < 5000, 'a waiting plan is not waited for');
  assert.equal(journal.plan(plan.id)?.state, 'running');

  world.trouble = [UNREACHABLE()];
  await open();
  await actions.takeUp(); // has met its obstacle once
  assert.equal(journal.plan(plan.id)?.state, 'running');
  await wait('the end', () => journal.plan(plan.id)?.state === 'done');
  assert.equal(world.log.filter((entry) => entry === 'first').length, 1);
});

void test('taking up ends what is ready to end, and one that fails does not keep the others from it', async () => {
  world.trouble = Array.from({ length: 4 }, UNREACHABLE);
  const plans = [await actions.begin('two-steps', R, {}), await actions.begin('two-steps', 'another', {})];
  await wait('obstacles', () => plans.every(({ id }) => journal.plan(id)?.obstacle !== null));
  await actions.close();
  world.trouble = [new Failure('bad-request', 'never so')];
  await open();
  await actions.takeUp();
  assert.deepEqual(new Set(plans.map(({ id }) => journal.plan(id)?.state)), new Set(['done', 'undone']));
});

void test('an action of an unknown kind is refused', async () => {
  await assert.rejects(actions.begin('three-steps', R, {}), { code: 'format-unknown' });
});
