import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Turns } from './turns.ts';

const NEVER = new AbortController().signal;

/** Somebody who stays until told to leave. */
function visitor(turns: Turns, due: number, entered: number[], signal = NEVER) {
  const leave = Promise.withResolvers<void>();
  const done = turns.run(due, signal, async () => {
    entered.push(due);
    await leave.promise;
  });
  return { done, leave: leave.resolve };
}

void test('no more are inside than there is room for; who has been due for longest comes next, whenever it came', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.uniqueArray(fc.nat(1000), { minLength: 1 }),
      async (most, dues) => {
        const turns = new Turns(most);
        const entered: number[] = [];
        const visitors = dues.map((due) => visitor(turns, due, entered));
        assert.deepEqual(entered, dues.slice(0, most));
        const order = [...dues.slice(0, most), ...dues.slice(most).toSorted((a, b) => a - b)];
        for (const due of order) {
          const { leave, done } = visitors[dues.indexOf(due)]!;
          assert.ok(turns.counts.inside <= most);
          leave();
          await done;
        }
        assert.deepEqual(entered, order);
        assert.deepEqual(turns.counts, { inside: 0, waiting: 0 });
      },
    ),
  );
});

void test('who gives up while it waits leaves the line; who is inside stays, and a failure gives the place back', async () => {
  const turns = new Turns(1);
  const entered: number[] = [];
  const given = new AbortController();
  const first = visitor(turns, 1, entered, given.signal);
  const second = visitor(turns, 2, entered, given.signal);
  const third = visitor(turns, 3, entered);
  given.abort(new Error('enough'));
  await assert.rejects(second.done, /enough/);
  assert.deepEqual(turns.counts, { inside: 1, waiting: 1 });
  first.leave();
  await first.done;
  third.leave();
  await third.done;
  assert.deepEqual(entered, [1, 3]);
  await assert.rejects(
    turns.run(0, NEVER, async () => {
      throw new Error('broken');
    }),
    /broken/,
  );
  await assert.rejects(
    turns.run(0, given.signal, async () => assert.fail('it came in')),
    /enough/,
  );
  assert.deepEqual(turns.counts, { inside: 0, waiting: 0 });
});
