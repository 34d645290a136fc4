import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ExtentIndex, type IndexedRun } from './extent-index.ts';

const SIZE = 200;

/** A batch of runs whose source is their own number. */
const batches = fc
  .array(
    fc.array(
      fc.tuple(fc.integer({ min: 0, max: SIZE - 1 }), fc.integer({ min: 1, max: 40 })).map(([offset, length]) => ({
        offset,
        length: Math.min(length, SIZE - offset),
      })),
      { maxLength: 8 },
    ),
    { maxLength: 8 },
  )
  .map((all) => {
    let next = 1;
    return all.map((batch) => batch.map((run): IndexedRun<number> => ({ ...run, source: next++ })));
  });

void describe('an extent index', () => {
  void test('says of every byte what an array of bytes says, where the first to come stays', () => {
    fc.assert(
      fc.property(batches, fc.nat(SIZE - 1), fc.integer({ min: 1, max: SIZE }), (all, from, length) => {
        const index = new ExtentIndex<number>();
        const model = Array.from<number | undefined>({ length: SIZE });
        for (const batch of all) {
          index.add(batch);
          for (const { offset, length: bytes, source } of batch) {
            for (let at = offset; at < offset + bytes; at++) model[at] ??= source;
          }
        }
        const range = Math.min(length, SIZE - from);
        let at = from;
        for (const segment of index.lookup(from, range)) {
          assert.equal(segment.offset, at);
          assert.ok(segment.length > 0);
          for (let i = 0; i < segment.length; i++) assert.equal(segment.source, model[at + i]);
          at += segment.length;
        }
        assert.equal(at, from + range);
        let end = 0;
        for (const run of index.runs) {
          assert.ok(run.offset >= end, 'runs are sorted and disjoint');
          end = run.offset + run.length;
        }
      }),
      { numRuns: 500 },
    );
  });
});
