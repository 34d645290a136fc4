import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { createZstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { packedAtMost, packInto, unpackFrame } from './zstd.ts';

const TEXT = Buffer.from('what a guest writes, again and again, '.repeat(3000));
const PIECES = [TEXT, randomBytes(70_000), Buffer.alloc(1), Buffer.alloc(2 ** 20), TEXT.subarray(5, 4000)];

const pack = (data: Buffer, level: number) => packInto(data, level, Buffer.alloc(packedAtMost(data.length), 0xee));

void test('what is packed one after the other is what zstd unpacks, at any level', () => {
  for (const level of [1, -3, 3, 1]) {
    for (const piece of PIECES) assert.ok(zstdDecompressSync(pack(piece, level)).equals(piece));
  }
  assert.ok(pack(TEXT, 1).length < TEXT.length / 50);
});

void test('what zstd has packed is unpacked one after the other, each into memory of its own', () => {
  const unpacked = PIECES.map((piece) => unpackFrame(zstdCompressSync(piece), piece.length));
  for (const [i, piece] of PIECES.entries()) assert.ok(unpacked[i]?.equals(piece));
});

void test('a frame that is damaged, cut, longer or shorter than it says is refused, and the next one isn’t', () => {
  const packed = zstdCompressSync(TEXT);
  const damaged = Buffer.from(packed);
  damaged.fill(0xff, 4, 12);
  const wrong: readonly (readonly [what: string, frame: Buffer, length: number])[] = [
    ['damaged head', damaged, TEXT.length],
    ['cut', packed.subarray(0, -9), TEXT.length],
    ['a byte more', packed, TEXT.length - 1],
    ['a byte less', packed, TEXT.length + 1],
    ['much more', packed, 100],
    ['no frame', Buffer.from('no frame'), 8],
    ['nothing', Buffer.alloc(0), 5],
  ];
  for (const [what, bytes, length] of wrong) {
    assert.ok(unpackFrame(bytes, length) === undefined, what);
    assert.ok(unpackFrame(packed, TEXT.length)?.equals(TEXT) === true, `after: ${what}`);
  }
});

void test('a frame that lacks its end behind its last byte spoils nothing', async () => {
  const stream = createZstdCompress();
  stream.write(TEXT, () => stream.flush(() => stream.end())); // its last block is empty: 3 bytes
  const frame = await buffer(stream);
  unpackFrame(frame.subarray(0, -3), TEXT.length);
  assert.ok(unpackFrame(frame, TEXT.length)?.equals(TEXT));
});
