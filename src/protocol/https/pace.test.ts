import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Pace } from './pace.ts';
import { MOST_STRANDS } from './wire.ts';

const GIB = 2 ** 30;

/** So many ticks on a link where each connection carries `each`, and all of them `most`; gives the numbers that were tried. */
function walk(pace: Pace, ticks: number, { each, most }: { each: number; most: number }): number[] {
  return Array.from({ length: ticks }, () => {
    const { strands } = pace;
    pace.tick(Math.min(most, strands * each), 0);
    return strands;
  });
}

void describe('the number of strands', () => {
  void test('begins with one and doubles as long as that carries more', () => {
    const tried = walk(new Pace(1, GIB), 8, { each: 20, most: 1000 });
    assert.deepEqual(tried, [1, 1, 2, 2, 4, 4, 8, 8]);
    assert.equal(walk(new Pace(1, GIB), 400, { each: 20, most: 1000 }).at(-1), MOST_STRANDS);
  });

  void test('stays at what fills the link', () => {
    const tried = walk(new Pace(1, GIB), 400, { each: 20, most: 120 });
    assert.ok(tried.filter((n) => n === 8).length > 370, 'six would fill it');
    assert.equal(Math.max(...tried), MOST_STRANDS, 'and more are tried now and then');
  });

  void test('where one fills the link, there is one, and two are tried more and more rarely', () => {
    const tried = walk(new Pace(1, GIB), 400, { each: 20, most: 20 });
    assert.deepEqual(tried.slice(0, 10), [1, 1, 2, 2, 1, 1, 1, 1, 1, 1]);
    const at = tried.flatMap((n, i) => (n === 2 && tried[i - 1] === 1 ? [i] : []));
    const pauses = at.slice(1).map((when, i) => when - at[i]!);
    assert.deepEqual(pauses, [9, 14, 24, 44, 84, 84, 84]);
    assert.equal(Math.max(...tried), 2);
  });

  void test('begins a little below what was found before', () => {
    assert.equal(new Pace(8, GIB).strands, 6);
    assert.equal(new Pace(2, GIB).strands, 1);
  });

  void test('a short log is not worth many, its lost end only one', () => {
    assert.equal(new Pace(12, 9 * 2 ** 20).strands, 2);
    assert.equal(new Pace(12, 0).strands, 1);
    assert.equal(walk(new Pace(1, 9 * 2 ** 20), 20, { each: 20, most: 1000 }).at(-1), 2);
  });

  void test('nothing is learnt while the log itself is slow', () => {
    const pace = new Pace(1, GIB);
    for (let i = 0; i < 20; i++) pace.tick(1, 0.9);
    assert.equal(pace.strands, 1);
    assert.deepEqual(walk(pace, 3, { each: 20, most: 1000 }), [1, 1, 2]);
  });
});
