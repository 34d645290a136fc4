/** What the campaign of faults compares with: that it sees what is wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK, Image } from '../soak/faults/image.ts';
import { Past } from '../soak/faults/past.ts';

const SIZE = 3 * BLOCK + 4608;

void test('an image sees one byte that differs, in its last block too, and images share nothing that was written', () => {
  const zeros = Image.zeros(SIZE);
  const written = zeros.with(BLOCK - 3, Buffer.from('abcdef'));
  assert.equal(zeros.difference(Buffer.alloc(SIZE)), null);
  const bytes = Buffer.alloc(SIZE);
  bytes.write('abcdef', BLOCK - 3);
  assert.equal(written.difference(bytes), null);
  assert.ok(written.read(BLOCK - 4, 8).equals(Buffer.from('\0abcdef\0')));
  assert.match(zeros.difference(bytes)!, /2 of 4 blocks differ: 0 1/);
  bytes[SIZE - 1] = 1;
  assert.match(written.difference(bytes)!, /1 of 4 blocks differ: 3/);
  assert.match(zeros.difference(Buffer.alloc(SIZE - 512))!, /instead of/);
});

void test('what a death in the middle of writing leaves is old or new, sector by sector, and nothing else', () => {
  const old = Image.zeros(SIZE);
  const states = [old, old.with(0, Buffer.alloc(BLOCK, 1)), old.with(0, Buffer.alloc(BLOCK, 2))];
  const bytes = Buffer.alloc(SIZE);
  bytes.fill(1, 512, 1024);
  bytes.fill(2, 1024, 4096);
  const torn = Image.ofTorn(bytes, states);
  assert.equal(torn?.difference(bytes), null);
  bytes.fill(3, 1024, 1025);
  assert.equal(Image.ofTorn(bytes, states), null);
  bytes.fill(2, 1024, 1025);
  bytes.fill(1, 2 * BLOCK, 2 * BLOCK + 512);
  assert.equal(Image.ofTorn(bytes, states), null, 'where nothing was written');
});

void test('a point of an instant at which the disks were written is of no moment', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1000 });
  const past = new Past();
  const [first, second] = [[Image.zeros(512)], [Image.zeros(1024)]];
  past.begin(first);
  t.mock.timers.setTime(2000);
  past.end();
  t.mock.timers.setTime(3000);
  past.begin(second);
  const at = (instant: number) => past.at({ instant, kind: 'crash-consistent' });
  assert.deepEqual([at(999), at(1000), at(2000)], [[], [first], [first]]);
  assert.deepEqual([at(2001), at(2999), at(3000), at(9000)], [[], [], [second], [second]]);
  past.forgetBefore(2500);
  assert.deepEqual(at(1500), []);
});
