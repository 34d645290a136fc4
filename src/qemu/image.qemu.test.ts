import assert from 'node:assert/strict';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../lib/process.ts';
import {
  addBitmap,
  checkImage,
  clearBitmap,
  commitImage,
  compareImages,
  createImage,
  imageInfo,
  removeBitmap,
} from './image.ts';
import { MiB, pattern, scratchDaemon, scratchDirectory, scratchDisk } from './testing.ts';

const qcow2 = (path: string): { path: string; format: 'qcow2' } => ({ path, format: 'qcow2' });

async function writeInto(path: string, qemuIoCommand: string): Promise<void> {
  const { code, stderr } = await run('qemu-io', ['-f', 'qcow2', '-c', qemuIoCommand, path]);
  assert.equal(code, 0, stderr);
}

test('creates images and overlays, never over something that is there', async (t) => {
  const directory = await scratchDirectory(t);
  const base = join(directory, 'base.qcow2');
  const overlay = join(directory, 'over.qcow2');
  await createImage(base, 3 * MiB, { format: 'qcow2' });
  await createImage(overlay, 3 * MiB, { format: 'qcow2', backing: qcow2(base) });
  const info = await imageInfo(overlay, { format: 'qcow2' });
  assert.equal(info.format, 'qcow2');
  assert.equal(info.size, 3 * MiB);
  assert.deepEqual(info.backing, { path: base, format: 'qcow2' });
  assert.ok(info.allocated > 0 && info.allocated < MiB);
  await assert.rejects(createImage(base, MiB, { format: 'qcow2' }), { code: 'already-exists' });
  assert.equal((await imageInfo(base)).size, 3 * MiB);
  await assert.rejects(imageInfo(join(directory, 'none')), { code: 'io', message: /can't read image .*No such file/ });
});

test('bitmaps are added, cleared and removed', async (t) => {
  const path = join(await scratchDirectory(t), 'd.qcow2');
  await createImage(path, MiB, { format: 'qcow2' });
  await addBitmap(path, 'one');
  await addBitmap(path, 'two', 4096);
  await clearBitmap(path, 'two');
  assert.deepEqual((await imageInfo(path)).bitmaps, [
    { name: 'one', granularity: 65_536, flags: ['auto'] },
    { name: 'two', granularity: 4096, flags: ['auto'] },
  ]);
  await removeBitmap(path, 'one');
  assert.deepEqual(
    (await imageInfo(path)).bitmaps.map(({ name }) => name),
    ['two'],
  );
  await assert.rejects(removeBitmap(path, 'one'), { code: 'io', message: /can't remove bitmap one of .*Dirty bitmap/ });
});

test('compares content, not allocation; size counts', async (t) => {
  const directory = await scratchDirectory(t);
  const [a, b, c] = ['a', 'b', 'c'].map((name) => join(directory, name)) as [string, string, string];
  await createImage(a, MiB, { format: 'qcow2' });
  await createImage(b, 2 * MiB, { format: 'qcow2' });
  await writeFile(c, Buffer.alloc(MiB));
  const raw = { path: c, format: 'raw' } as const;
  assert.deepEqual(await compareImages(qcow2(a), raw), { identical: true });
  assert.deepEqual(await compareImages(qcow2(a), qcow2(b)), {
    identical: false,
    difference: `sizes ${MiB} and ${2 * MiB}`,
  });
  const handle = await open(c, 'r+');
  await handle.write(pattern(1, 1), 0, 1, 600_000);
  await handle.close();
  const { identical, difference } = await compareImages(qcow2(a), raw);
  assert.equal(identical, false);
  assert.match(difference!, /mismatch/);
});

test('commits an overlay into its base', async (t) => {
  const directory = await scratchDirectory(t);
  const [base, overlay, expected] = ['base', 'over', 'expected'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [base, expected]) await createImage(path, MiB, { format: 'qcow2' });
  await createImage(overlay, MiB, { format: 'qcow2', backing: qcow2(base) });
  for (const path of [overlay, expected]) await writeInto(path, 'write -P 7 64k 200k');
  assert.equal((await compareImages(qcow2(base), qcow2(expected))).identical, false);
  await commitImage(overlay);
  assert.deepEqual(await compareImages(qcow2(base), qcow2(expected)), { identical: true });
  await assert.rejects(commitImage(base), { code: 'wrong-state', message: /no backing file/ });
});

test('checks find and repair leaks', async (t) => {
  const path = join(await scratchDirectory(t), 'd.qcow2');
  await createImage(path, MiB, { format: 'qcow2' });
  await writeInto(path, 'write 0 256k');
  assert.deepEqual(await checkImage(path), { corruptions: 0, leaks: 0 });
  // The entry of the one refcount block for cluster 9, behind everything in use, says that it is used: a leak.
  const handle = await open(path, 'r+');
  await handle.truncate(10 * 65_536);
  await handle.write(Buffer.from([0, 1]), 0, 2, 2 * 65_536 + 2 * 9);
  await handle.close();
  assert.deepEqual(await checkImage(path), { corruptions: 0, leaks: 1 });
  assert.deepEqual(await checkImage(path, { repair: 'leaks' }), { corruptions: 0, leaks: 0 });
  assert.deepEqual(await checkImage(path), { corruptions: 0, leaks: 0 });
});

test('an image that is open is only readable past its lock', async (t) => {
  const place = await scratchDaemon(t);
  const path = await scratchDisk(place, 'disk', MiB);
  await assert.rejects(imageInfo(path), { code: 'io', message: /lock/ });
  assert.equal((await imageInfo(path, { format: 'qcow2', inUse: true })).size, MiB);
});

test('qemu-img reverts no image with a change bitmap, and says so; it does once that is removed', async (t) => {
  const path = join(await scratchDirectory(t), 'd.qcow2');
  await createImage(path, MiB, { format: 'qcow2' });
  const snapshot = async (...words: string[]) => await run('qemu-img', ['snapshot', ...words, path]);
  assert.equal((await snapshot('-c', 'early')).code, 0);
  await addBitmap(path, 'understudy-1');
  const refused = await snapshot('-a', 'early');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /dirty bitmaps/);
  await removeBitmap(path, 'understudy-1');
  assert.equal((await snapshot('-a', 'early')).code, 0);
});
