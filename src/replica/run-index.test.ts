import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RunColumns, RunIndex } from './run-index.ts';

const SIZE = 300;

/** Batches of runs whose source is their own number; long ones, so that stretches are copied by column, too. */
const batches = fc
  .array(fc.array(fc.tuple(fc.nat(SIZE - 1), fc.integer({ min: 1, max: 12 })), { maxLength: 60, size: 'max' }), {
    maxLength: 9,
  })
  .map((all) => {
    let next = 0;
    return all.map((batch) => {
      const runs = new RunColumns(batch.length);
      for (const [offset, length] of batch) runs.push(offset, Math.min(length, SIZE - offset), next++);
      return runs;
    });
  });

void describe('an index of runs', () => {
  void test('says of every byte what an array of bytes says, however the batches came in', () => {
    fc.assert(
      fc.property(batches, fc.nat(9), (all, atOnce) => {
        const index = new RunIndex();
        index.add(all.slice(0, atOnce));
        for (const batch of all.slice(atOnce)) index.add([batch]);
        const model = Array.from<number | undefined>({ length: SIZE });
        for (const { count, offset, length, source } of all) {
          for (let i = 0; i < count; i++) {
            for (let at = offset[i]!; at < offset[i]! + length[i]!; at++) model[at] ??= source[i]!;
          }
        }
        const read = index.lookup(0, SIZE).flatMap((part) => Array.from({ length: part.length }, () => part.source));
        assert.deepEqual(read, model);
        const { count, offset, length } = index.runs;
        for (let i = 1; i < count; i++) assert.ok(offset[i]! >= offset[i - 1]! + length[i - 1]!, 'sorted and disjoint');
        assert.equal(offset.length, count, 'no room is left over');
      }),
      { numRuns: 200 },
    );
  });

  void test('gives sources other numbers', () => {
    const index = new RunIndex();
    const runs = new RunColumns(2);
    runs.push(0, 10, 1);
    runs.push(20, 5, 3);
    index.add([runs]);
    index.renumber(Uint32Array.of(9, 0, 9, 1));
    assert.deepEqual(
      index.lookup(0, 25).map(({ source }) => source),
      [0, undefined, 1],
    );
  });
});
