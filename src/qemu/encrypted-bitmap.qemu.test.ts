import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../lib/process.ts';
import { addEncryptedBitmap, removeEncryptedBitmap } from './encrypted-bitmap.ts';
import { addBitmap, imageInfo } from './image.ts';
import { scratchDirectory } from './testing.ts';

test('a bitmap of an encrypted image is added and removed with its key, and with no other', async (t) => {
  const directory = await scratchDirectory(t);
  const path = join(directory, 'luks.qcow2');
  const file = join(directory, 'key');
  await writeFile(file, 'right');
  const luks = 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10';
  const create = ['create', '-q', '-f', 'qcow2', '--object', `secret,id=key,file=${file}`, '-o', luks, path, '8M'];
  const { code, stderr } = await run('qemu-img', create);
  assert.equal(code, 0, stderr);
  const flags = async () =>
    (await imageInfo(path, { format: 'qcow2' })).bitmaps.map(({ name, flags }) => [name, ...flags]);

  assert.equal((await imageInfo(path, { format: 'qcow2' })).encrypted, true);
  await assert.rejects(addBitmap(path, 'b'), { code: 'io' });
  const image = { path, key: Buffer.from('right'), directory };
  await assert.rejects(addEncryptedBitmap({ ...image, key: Buffer.from('wrong') }, 'b'));
  assert.deepEqual(await flags(), []);
  await addEncryptedBitmap(image, 'b');
  assert.deepEqual(await flags(), [['b', 'auto']]);
  await removeEncryptedBitmap(image, 'b');
  assert.deepEqual(await flags(), []);
});
