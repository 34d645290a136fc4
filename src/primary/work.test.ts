import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ChangedExtent } from '../model/extent.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';
import { comparison, endOf, ITEM_BYTES, workOf } from './work.ts';

const KIB = 1024;

/** Sorted, disjoint. */
const extents: fc.Arbitrary<ChangedExtent[]> = fc
  .array(fc.record({ gap: fc.nat(300), length: fc.integer({ min: 1, max: 3000 }), zero: fc.boolean() }))
  .map((runs) => {
    let at = 0;
    return runs.map(({ gap, length, zero }) => {
      const offset = at + gap * KIB;
      at = offset + length * KIB;
      return { offset, length: length * KIB, zero };
    });
  });

/** Neighbours that are cut joined again. */
function joined(parts: Iterable<ChangedExtent>): ChangedExtent[] {
  const out: ChangedExtent[] = [];
  for (const part of parts) {
    const last = out.at(-1);
    if (last !== undefined && last.zero === part.zero && last.offset + last.length === part.offset)
      out.splice(-1, 1, { ...last, length: last.length + part.length });
    else out.push(part);
  }
  return out;
}

void test('items are all there is to read, in order, none of them too large', () => {
  fc.assert(
    fc.property(extents, fc.integer({ min: 1, max: 4000 }), fc.integer({ min: 1, max: 9 }), (changes, kib, runs) => {
      const items = [...workOf(3, changes, { bytes: kib * KIB, extents: runs })];
      assert.deepEqual(joined(items.flatMap((item) => item.extents)), joined(changes));
      for (const item of items) {
        assert.equal(item.disk, 3);
        const data = item.extents.filter(({ zero }) => !zero);
        const bytes = data.reduce((sum, { length }) => sum + length, 0);
        assert.ok(bytes <= kib * KIB && data.length <= runs && item.extents.length > 0);
      }
    }),
  );
});

void test('a run of zeros stays whole, however long', () => {
  const items = [...workOf(0, [{ offset: 0, length: 2 ** 42, zero: true }])];
  assert.equal(items.length, 1);
  assert.equal(endOf(items[0]!), 2 ** 42);
});

for (const itemBytes of [ITEM_BYTES, 5 * DIGEST_BLOCK]) {
  void test(`a comparison covers its range by ${itemBytes} bytes, each item with the digests of its blocks`, () => {
    const size = 3 * ITEM_BYTES - 1234;
    const from = DIGEST_BLOCK * 5;
    const blocks = Math.ceil((size - from) / DIGEST_BLOCK);
    const theirs = Buffer.alloc(blocks * DIGEST_BYTES);
    for (let i = 0; i < blocks; i++) theirs.writeUInt32LE(5 + i, i * DIGEST_BYTES);
    const changes = [
      { offset: from, length: ITEM_BYTES, zero: true },
      { offset: from + ITEM_BYTES, length: size - from - ITEM_BYTES, zero: false },
    ];
    const items = [...comparison(1, { from, to: size }, changes, theirs, itemBytes)];
    assert.deepEqual(joined(items.flatMap((item) => item.extents)), changes);
    assert.equal(endOf(items.at(-1)!), size);
    for (const { extents: own, theirs: known } of items) {
      assert.equal(known!.from, own[0]!.offset / DIGEST_BLOCK);
      assert.equal(Buffer.from(known!.digests).readUInt32LE(0), known!.from);
      const length = own.reduce((sum, extent) => sum + extent.length, 0);
      assert.equal(known!.digests.length, Math.ceil(length / DIGEST_BLOCK) * DIGEST_BYTES);
    }
  });
}
