import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { differences } from './difference.ts';

const LENGTH = 40_000;

void test('what differs is in the runs, which hold no two equal pages side by side but short gaps', () => {
  const changes = fc.array(fc.record({ at: fc.nat(LENGTH - 1), length: fc.integer({ min: 1, max: 9000 }) }), {
    maxLength: 4,
  });
  fc.assert(
    fc.property(changes, fc.nat(10_000), (list, offset) => {
      const before = Buffer.alloc(LENGTH, 1);
      const after = Buffer.from(before);
      for (const { at, length } of list) after.fill(2, at, Math.min(LENGTH, at + length));
      const runs = differences(before, after, offset);
      const mended = Buffer.from(before);
      let end = -Infinity;
      for (const run of runs) {
        const from = run.offset - offset;
        assert.ok(run.offset > end + 8192 && run.length > 0);
        end = run.offset + run.length;
        after.copy(mended, from, from, from + run.length);
        const first = 4096 - (run.offset % 4096);
        assert.ok(
          after.subarray(from, from + Math.min(first, run.length)).includes(2),
          'it begins with a page that differs',
        );
      }
      assert.ok(mended.equals(after));
    }),
  );
});
