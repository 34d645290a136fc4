import assert from 'node:assert/strict';
import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { run } from '../lib/process.ts';
import { addBitmap, compareImages, imageInfo, resizeImage } from './image.ts';
import { MiB, pattern, scratchDirectory } from './testing.ts';
import { isWrittenBeside, makeTrackingImage, removeTrackingImage, stillWrittenBeside } from './tracking-image.ts';

const SIZE = 3 * MiB;

async function rawDisk(t: TestContext): Promise<{ directory: string; raw: string; image: string; bytes: Buffer }> {
  const directory = await scratchDirectory(t);
  const raw = join(directory, 'a,disk.raw'); // a comma is qemu-img's own
  const bytes = pattern(SIZE, 1);
  await writeFile(raw, bytes, { mode: 0o640 });
  return { directory, raw, image: `${raw}.understudy.qcow2`, bytes };
}

async function assertSame(raw: string, image: string): Promise<void> {
  const both = await compareImages({ path: raw, format: 'raw' }, { path: image, format: 'qcow2' });
  assert.deepEqual(both, { identical: true });
}

async function qemuIo(image: string, ...commands: string[]): Promise<void> {
  const { code, stdout, stderr } = await run('qemu-io', [
    '-f',
    'qcow2',
    ...commands.flatMap((one) => ['-c', one]),
    image,
  ]);
  assert.equal(code, 0, stdout + stderr);
}

test('the raw disk keeps its bytes, and reads the same through its image, which anybody may open who may open the disk', async (t) => {
  const { directory, raw, image, bytes } = await rawDisk(t);
  await makeTrackingImage(image, raw);
  await makeTrackingImage(image, raw); // again, after a crash
  assert.ok((await readFile(raw)).equals(bytes));
  await assertSame(raw, image);
  const { size, dataFile, allocated } = await imageInfo(image, { format: 'qcow2' });
  assert.deepEqual([size, dataFile], [SIZE, { path: raw, raw: true }]);
  assert.ok(allocated < MiB, `${allocated} bytes`);
  assert.equal((await stat(image)).mode & 0o777, 0o640);
  assert.deepEqual((await readdir(directory)).toSorted(), ['a,disk.raw', 'a,disk.raw.understudy.qcow2']);
  await removeTrackingImage(image);
  await removeTrackingImage(image);
  assert.deepEqual(await readdir(directory), ['a,disk.raw']);
  assert.ok((await readFile(raw)).equals(bytes));
});

test('whatever is written through the image, zeroed, discarded or resized, is in the raw disk', async (t) => {
  const { raw, image } = await rawDisk(t);
  await makeTrackingImage(image, raw);
  await addBitmap(image, 'one');
  await qemuIo(
    image,
    'write -P 7 1M 4k',
    'write -z 64k 128k',
    'write -z -u 512k 64k',
    'write -z 8704 4096',
    'discard 2M 256k',
  );
  await qemuIo(image, 'write -P 9 2M 512', 'write -P 9 66k 1k');
  await assertSame(raw, image);
  await run('qemu-img', ['bitmap', '--remove', '-f', 'qcow2', image, 'one']);
  for (const size of [5 * MiB, 2 * MiB]) {
    await resizeImage(image, size);
    assert.equal((await stat(raw)).size, size);
    await assertSame(raw, image);
  }
});

test('what is written past the image is seen, until somebody opens the image for writing', async (t) => {
  const { raw, image } = await rawDisk(t);
  await makeTrackingImage(image, raw);
  await addBitmap(image, 'one');
  await qemuIo(image, 'write -P 7 0 4k');
  assert.equal(await isWrittenBeside(image), false);
  const { mtimeMs } = await stat(image);
  await utimes(raw, new Date(), new Date(mtimeMs + 3000)); // as a write does then
  assert.equal(await isWrittenBeside(image), true);
  await stillWrittenBeside(image, async () => {
    await run('qemu-img', ['bitmap', '--remove', '-f', 'qcow2', image, 'one']);
  });
  assert.equal(await isWrittenBeside(image), true, 'a bitmap less changes nothing of that');
  await utimes(image, new Date(), new Date(mtimeMs + 4000));
  assert.equal(await isWrittenBeside(image), false);
  assert.equal(await isWrittenBeside(raw), false, 'it is no tracking image');
});

test('without a disk there is no image', async (t) => {
  const { directory, image } = await rawDisk(t);
  await assert.rejects(makeTrackingImage(image, join(directory, 'none')), { code: 'io', message: /No such file/ });
  assert.deepEqual(await readdir(directory), ['a,disk.raw']);
});
