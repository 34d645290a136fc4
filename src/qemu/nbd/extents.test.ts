import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ExtentList } from './extents.ts';

const run = fc.record({ length: fc.integer({ min: 1, max: 50 }), flags: fc.integer({ min: 0, max: 2 }) });

test('whatever the replies cut and repeat, the list is the disk, byte for byte, merged', () => {
  fc.assert(
    fc.property(fc.array(run, { minLength: 1, maxLength: 20 }), fc.infiniteStream(fc.nat(1000)), (runs, choices) => {
      const flagsOf = runs.flatMap(({ length, flags }) => Array.from({ length }, () => flags));
      const choose = (below: number): number => choices.next().value! % below;
      const offset = choose(flagsOf.length);
      const length = 1 + choose(flagsOf.length - offset);
      const list = new ExtentList(offset, length);
      while (!list.complete) {
        const from = Math.max(offset, list.at - choose(30));
        const reply: { length: number; flags: number }[] = [];
        let at = from;
        while (at <= list.at || choose(3) > 0) {
          if (at >= flagsOf.length) break;
          let end = at + 1;
          while (end < flagsOf.length && flagsOf[end] === flagsOf[at] && choose(10) > 0) end++;
          reply.push({ length: end - at, flags: flagsOf[at]! });
          at = end;
        }
        list.add(from, reply);
      }
      const bytes = list.extents.flatMap((extent) => Array.from({ length: extent.length }, () => extent.flags));
      assert.deepEqual(bytes, flagsOf.slice(offset, offset + length));
      assert.equal(list.extents[0]!.offset, offset);
      for (const [i, extent] of list.extents.entries()) {
        const before = list.extents[i - 1];
        if (before === undefined) continue;
        assert.equal(extent.offset, before.offset + before.length);
        assert.notEqual(extent.flags, before.flags);
      }
    }),
  );
});

test('an extent of no bytes is an error, not an endless loop', () => {
  const list = new ExtentList(0, 100);
  assert.throws(() => list.add(0, [{ length: 0, flags: 0 }]), { code: 'disk-engine' });
});
