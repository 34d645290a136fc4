import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import { itemSize, Pace, readingMs } from './pace.ts';
import { WHOLE_ITEM, workOf } from './work.ts';

const MiB = 2 ** 20;
const run = (offset: number, length: number, zero = false) => ({ offset, length, zero });

void test('items are a tenth of a second of the limit, of whole blocks, and never larger than without', () => {
  assert.deepEqual(itemSize({ bytesPerSecond: 0, iops: 0 }), WHOLE_ITEM);
  assert.deepEqual(itemSize({ bytesPerSecond: 50 * MiB, iops: 0 }), { bytes: 5 * MiB, extents: WHOLE_ITEM.extents });
  assert.deepEqual(itemSize({ bytesPerSecond: 0, iops: 20 }), { bytes: 2 * MiB, extents: 2 });
  assert.deepEqual(itemSize({ bytesPerSecond: MiB, iops: 10 }), { bytes: MiB, extents: 1 });
  assert.deepEqual(itemSize({ bytesPerSecond: MiB, iops: 0 }), { bytes: DIGEST_BLOCK, extents: WHOLE_ITEM.extents });
  assert.deepEqual(itemSize({ bytesPerSecond: 1e12, iops: 1e9 }), WHOLE_ITEM);
});

void test('zeros cost nothing, a run costs a read for each MiB that it touches', () => {
  const limit = { bytesPerSecond: 10 * MiB, iops: 10 };
  assert.equal(readingMs([run(0, 2 ** 40, true)], limit), 0);
  assert.equal(readingMs([run(0, MiB)], { bytesPerSecond: 10 * MiB, iops: 0 }), 100);
  assert.equal(readingMs([run(0, 4 * MiB)], limit), 400);
  assert.equal(readingMs([run(MiB - 1, 2), run(5 * MiB, 1)], limit), 300);
  assert.equal(readingMs([run(0, 2 ** 40)], { bytesPerSecond: 0, iops: 0 }), 0);
});

void test('whatever is read, neither bytes nor reads come faster than the limit, and none waits for longer than it must', () => {
  const changes = fc.array(fc.record({ gap: fc.nat(3 * MiB), length: fc.integer({ min: 1, max: 6 * MiB }) }));
  const limits = fc.record({
    bytesPerSecond: fc.integer({ min: MiB, max: 99 * MiB }),
    iops: fc.integer({ min: 10, max: 900 }),
  });
  fc.assert(
    fc.property(changes, limits, (gaps, limit) => {
      let at = 0;
      const extents = gaps.map(({ gap, length }) => {
        const extent = run(at + gap, length);
        at += gap + length;
        return extent;
      });
      let now = 0;
      const pace = new Pace(() => now);
      for (const work of workOf(0, extents, itemSize(limit))) now += pace.take(work, limit);
      const least = readingMs(extents, limit);
      assert.ok(now >= least - 100 - 1e-3, `${now} ms, ${least} are the least`);
      // A read that the end of an item cuts is two.
      assert.ok(now <= 2 * least, `${now} ms, ${least} are the least`);
    }),
  );
});
