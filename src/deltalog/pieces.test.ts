import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digest } from '../lib/digest.ts';
import { BLOCK, blocksIn, Pieces } from './pieces.ts';

const MOST = 5 * BLOCK;
const bytes = Buffer.from(Array.from({ length: MOST }, (_, i) => (i * 31 + (i >> 8)) & 255));

/** Cut as FORMAT.md has it, byte by byte. */
function expected(offset: number | undefined, length: number): Buffer {
  const cuts = [0];
  for (let at = 1; at < length; at++) if (offset !== undefined && (offset + at) % BLOCK === 0) cuts.push(at);
  return Buffer.concat(cuts.map((from, i) => digest(bytes.subarray(from, cuts[i + 1] ?? length))));
}

test('pieces end where blocks of the disk do, in whatever chunks the bytes come', () => {
  const near = fc.integer({ min: -2, max: 2 });
  const offsets = fc.option(
    fc.oneof(
      fc.nat(BLOCK - 1),
      near.map((n) => 3 * BLOCK + n),
    ),
    { nil: undefined },
  );
  const lengths = fc.oneof(
    fc.integer({ min: 1, max: MOST }),
    near.map((n) => 2 * BLOCK + n),
  );
  fc.assert(
    fc.property(offsets, lengths, fc.array(fc.integer({ min: 1, max: 2 * BLOCK })), (offset, length, chunks) => {
      const pieces = new Pieces(length, offset);
      let at = 0;
      for (const chunk of chunks) at += given(pieces, at, Math.min(chunk, length - at));
      given(pieces, at, length - at);
      assert.equal(pieces.finish().toString('hex'), expected(offset, length).toString('hex'));
    }),
    { numRuns: 300 },
  );
});

function given(pieces: Pieces, from: number, length: number): number {
  pieces.update(bytes.subarray(from, from + length));
  return length;
}

test('the digests of whole blocks are among them, and nothing stored has none', () => {
  const offset = 3 * BLOCK - 100;
  const pieces = new Pieces(2 * BLOCK + 200, offset);
  pieces.update(bytes.subarray(0, 2 * BLOCK + 200));
  const second = digest(bytes.subarray(100 + BLOCK, 100 + 2 * BLOCK));
  assert.deepEqual(blocksIn(pieces.finish(), offset, 4, 1), second);
  assert.equal(new Pieces(0, undefined).finish().length, 0);
});
