import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RECORD_BYTES, checkRecords, makeRecord, parseRecord, parseRecords, problems } from './records.ts';

const file = (numbers: readonly number[]) =>
  Buffer.from(numbers.map((number) => makeRecord({ number, time: 1_700_000_000_000 + number })).join(''));
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);
const report = (vda: readonly number[], vdb: readonly number[]) => ({
  vda: checkRecords(file(vda)),
  vdb: checkRecords(file(vdb)),
});

test('a record is a line of 34 bytes that reads back', () => {
  const line = makeRecord({ number: 7, time: 1_700_000_000_123 });
  assert.equal(line.length, RECORD_BYTES);
  assert.deepEqual(parseRecord(line), { number: 7, time: 1_700_000_000_123 });
});

test('a change of any one byte is noticed', () => {
  const good = file([41, 42, 43]);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const damaged = Buffer.from(good);
      damaged[at] = damaged[at]! ^ change;
      assert.deepEqual([checkRecords(damaged).bad, checkRecords(damaged).count], [1, 2]);
    }),
  );
});

test('missing, repeated and torn records are counted', () => {
  const content = Buffer.concat([file([1, 2, 2, 5, 6]), file([7]).subarray(0, 20)]);
  assert.deepEqual(checkRecords(content), {
    count: 5,
    first: 1,
    last: 6,
    bad: 0,
    gaps: 2,
    duplicates: 1,
    tornBytes: 20,
  });
  assert.deepEqual(
    parseRecords(content).map(({ number }) => number),
    [1, 2, 2, 5, 6],
  );
});

test('two disks of one instant are level, or vdb is one behind', () => {
  assert.deepEqual(problems(report(upTo(5), upTo(5))), []);
  assert.deepEqual(problems(report(upTo(5), upTo(4))), []);
  assert.deepEqual(problems(report([], [])), []);
  assert.equal(problems(report(upTo(5), upTo(3))).length, 1);
  assert.equal(problems(report(upTo(4), upTo(5))).length, 1);
  assert.equal(problems(report([2, 3], upTo(3))).length, 1);
  assert.equal(problems(report([1, 3], upTo(3))).length, 1);
});
