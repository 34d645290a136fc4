import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  alignZeros,
  clip,
  classify,
  overlaps,
  pieces,
  totalLength,
  union,
  without,
  type ChangedExtent,
  type Extent,
} from './extent.ts';

/** The model: a short disk, one number per byte. */
const DISK = 96;

const extent = fc
  .tuple(fc.integer({ min: 0, max: DISK - 1 }), fc.integer({ min: 1, max: DISK }))
  .map(([offset, length]) => ({ offset, length: Math.min(length, DISK - offset) }));
const anyExtents = fc.array(extent, { maxLength: 10 });
/** Sorted and disjoint, as NBD servers tell them; runs may touch. */
const runs = fc.uniqueArray(fc.integer({ min: 0, max: DISK }), { maxLength: 14 }).map((cuts) => {
  const sorted = cuts.toSorted((a, b) => a - b);
  const out: Extent[] = [];
  for (let i = 0; i + 1 < sorted.length; i++) {
    if (sorted[i]! % 3 !== 0) out.push({ offset: sorted[i]!, length: sorted[i + 1]! - sorted[i]! });
  }
  return out;
});

function bytes(extents: readonly Extent[], mark: (extent: Extent) => number = () => 1): number[] {
  const disk = Array.from({ length: DISK }, () => 0);
  for (const one of extents) disk.fill(mark(one), one.offset, one.offset + one.length);
  return disk;
}

const DATA = 1;
const ZERO = 2;
const kinds = (extents: readonly ChangedExtent[]) => bytes(extents, (one) => ('zero' in one && one.zero ? ZERO : DATA));

function assertSortedAndDisjoint(extents: readonly Extent[]): void {
  for (const [i, { offset, length }] of extents.entries()) {
    assert.ok(length > 0);
    if (i > 0) assert.ok(offset >= extents[i - 1]!.offset + extents[i - 1]!.length);
  }
}

void describe('extents, against a disk of numbers', () => {
  void test('union covers the same bytes, with gaps between its runs', () => {
    fc.assert(
      fc.property(anyExtents, (extents) => {
        const united = union(extents);
        assert.deepEqual(bytes(united), bytes(extents));
        for (const [i, { offset }] of united.entries()) {
          if (i > 0) assert.ok(offset > united[i - 1]!.offset + united[i - 1]!.length, 'touching runs become one');
        }
        assert.equal(totalLength(united), bytes(extents).filter((byte) => byte === 1).length);
      }),
    );
  });

  void test('classify says of every dirty byte, and of no other, whether it reads as zero', () => {
    fc.assert(
      fc.property(runs, runs, (dirty, zeros) => {
        const changed = classify(dirty, zeros);
        assertSortedAndDisjoint(changed);
        const isDirty = bytes(dirty);
        const isZero = bytes(zeros);
        const wanted = isDirty.map((byte, at) => (byte === 0 ? 0 : isZero[at] === 1 ? ZERO : DATA));
        assert.deepEqual(kinds(changed), wanted);
      }),
    );
  });

  void test('pieces cover the same bytes, none longer than a size or across a multiple of it', () => {
    fc.assert(
      fc.property(runs, fc.integer({ min: 1, max: 40 }), (extents, size) => {
        const cut = [...pieces(extents, size)];
        assertSortedAndDisjoint(cut);
        assert.deepEqual(bytes(cut), bytes(extents));
        for (const { offset, length } of cut) {
          assert.equal(Math.floor(offset / size), Math.floor((offset + length - 1) / size));
        }
      }),
    );
  });

  void test('clip keeps what lies between two borders', () => {
    fc.assert(
      fc.property(extent, extent, (one, window) => {
        const from = window.offset;
        const to = from + window.length;
        const wanted = bytes([one]).map((byte, at) => (at >= from && at < to ? byte : 0));
        const kept = clip(one, from, to);
        assert.deepEqual(bytes(kept === undefined ? [] : [kept]), wanted);
      }),
    );
  });

  void test('alignZeros covers everything, with borders on blocks, and calls zero only and all whole blocks that are', () => {
    const block = fc.integer({ min: 1, max: 16 });
    fc.assert(
      fc.property(runs, runs, block, fc.nat(5), fc.nat(DISK), (dirty, zeros, size, skip, length) => {
        const from = Math.min(skip * size, Math.floor(DISK / size) * size);
        const to = Math.min(DISK, from + length);
        const known = classify(dirty, zeros).flatMap((one) => clip(one, from, to) ?? []);
        const aligned = alignZeros(known, from, to, size);
        assertSortedAndDisjoint(aligned);
        const covered = bytes(aligned);
        for (let at = 0; at < DISK; at++) assert.equal(covered[at], at >= from && at < to ? 1 : 0);
        const before = kinds(known);
        const after = kinds(aligned);
        for (let at = from; at < to; at += size) {
          const end = Math.min(at + size, to);
          const block = after.slice(at, end);
          assert.ok(
            block.every((kind) => kind === block[0]),
            'a block is one thing',
          );
          if (block[0] === ZERO) assert.ok(before.slice(at, end).every((kind) => kind === ZERO));
        }
        for (const { offset, length: bytesOf } of aligned) {
          assert.equal(offset % size, 0);
          assert.ok((offset + bytesOf) % size === 0 || offset + bytesOf === to);
        }
        // A run of zeros that no border cuts is found, but for the blocks that it covers in part.
        for (const hole of known.filter(({ zero }) => zero)) {
          const end = hole.offset + hole.length;
          for (let at = Math.ceil(hole.offset / size) * size; at < end; at += size) {
            if (at + size <= end || end === to) assert.equal(after[at], ZERO, `block at ${at}`);
          }
        }
      }),
    );
  });
});

test('what is left without holes is what no hole covers', () => {
  fc.assert(
    fc.property(runs, anyExtents, (extents, holes) => {
      const left = bytes(without(extents, holes));
      const [all, gone] = [bytes(extents), bytes(holes)];
      assert.deepEqual(
        left,
        all.map((byte, at) => (gone[at] === 1 ? 0 : byte)),
      );
    }),
  );
});

test('extents overlap where they have a byte in common', () => {
  fc.assert(
    fc.property(anyExtents, extent, (extents, one) => {
      const mine = bytes([one]);
      const common = bytes(extents).some((byte, at) => byte === 1 && mine[at] === 1);
      assert.equal(overlaps(extents, one), common);
    }),
  );
});
