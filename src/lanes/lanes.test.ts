import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { Failure } from '../model/failure.ts';
import { Lanes, type Task } from './lanes.ts';

const module = new URL('./trial.fixture.ts', import.meta.url).href;
const task = (name: string): Task => ({ module, name });

describe('lanes', () => {
  let lanes = new Lanes(2);
  afterEach(async () => {
    await lanes.close();
    lanes = new Lanes(2);
  });

  test('a task runs in another thread, on plain data and shared memory', async () => {
    const memory = new SharedArrayBuffer(4);
    const here = await lanes.run<{ thread: number; sum: number }>(task('add'), { numbers: [1, 2, 3], memory });
    assert.equal(here.sum, 6);
    assert.notEqual(here.thread, 0);
    assert.equal(new Int32Array(memory)[0], 6);
  });

  test('tasks take the idle lane first, then share', async () => {
    const going = ['a', 'b', 'c'].map(() => {
      const stop = new AbortController();
      return { stop, end: lanes.run<number>(task('untilStopped'), null, { signal: stop.signal }) };
    });
    const threads = await Promise.all([lanes.run(task('thread'), null), lanes.run(task('thread'), null)]);
    assert.equal(lanes.busy, 3);
    assert.equal(new Set(threads).size, 2);
    const ended = going.map(({ end }) => assert.rejects(end, { code: 'interrupted', message: 'enough' }));
    for (const { stop } of going) stop.abort(new Failure('interrupted', 'enough'));
    await Promise.all(ended);
    assert.equal(lanes.busy, 0);
  });

  test('what a task throws comes out as what it was', async () => {
    await assert.rejects(lanes.run(task('fail'), 'failure'), (error) => {
      assert.ok(error instanceof Failure);
      return error.code === 'bad-log' && error.hint === 'do this' && error.message === 'torn';
    });
    await assert.rejects(lanes.run(task('fail'), 'system'), { code: 'ENOENT' });
  });

  test('it tells and asks', async () => {
    const told: unknown[] = [];
    const answer = await lanes.run(task('converse'), [1, 2], {
      onTold: (message) => told.push(message),
      onAsked: async (question) => {
        if (question === 2) throw new Failure('busy', 'not now');
        return Number(question) * 10;
      },
    });
    assert.deepEqual(told, ['asking 1', 'asking 2']);
    assert.deepEqual(answer, [10, 'busy']);
  });

  test('a lane that dies fails its tasks only, and another takes its place', async () => {
    await assert.rejects(lanes.run(task('die'), null), { code: 'internal', message: 'a worker thread died' });
    assert.equal(typeof (await lanes.run(task('thread'), null)), 'number');
  });

  test('closed, it fails what is under way and takes nothing more', async () => {
    const forever = lanes.run(task('untilStopped'), null);
    await lanes.run(task('thread'), null);
    const failed = assert.rejects(forever, { code: 'interrupted' });
    await lanes.close();
    await failed;
    await assert.rejects(lanes.run(task('thread'), null), { code: 'interrupted' });
  });
});
