import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { createImage, imageInfo, resizeImage } from './image.ts';
import { imageSize } from './image-size.ts';
import { MiB, scratchDirectory } from './testing.ts';

void test('a size is what qemu-img says, also after a resize, and of a raw image', async (t) => {
  const directory = await scratchDirectory(t);
  const path = join(directory, 'a.qcow2');
  await createImage(path, 5 * MiB + 512, { format: 'qcow2' });
  assert.equal(await imageSize({ path, format: 'qcow2' }), 5 * MiB + 512);
  await resizeImage(path, 6 * 1024 ** 4);
  const { size } = await imageInfo(path, { format: 'qcow2' });
  assert.deepEqual([await imageSize({ path, format: 'qcow2' }), size], [6 * 1024 ** 4, 6 * 1024 ** 4]);
  const raw = join(directory, 'b.raw');
  await createImage(raw, MiB, { format: 'raw' });
  assert.equal(await imageSize({ path: raw, format: 'raw' }), MiB);
});

void test('what is no image is named', async (t) => {
  const path = join(await scratchDirectory(t), 'none.qcow2');
  const image = { path, format: 'qcow2' } as const;
  await assert.rejects(imageSize(image), { code: 'io', message: /none\.qcow2/ });
  await writeFile(path, 'short');
  await assert.rejects(imageSize(image), { code: 'io', message: /none\.qcow2 is no qcow2 image/ });
});
