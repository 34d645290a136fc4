import assert from 'node:assert/strict';
import { mkdtemp, open, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { until } from '../lib/clock.ts';
import { TRACKING_SUFFIX } from '../qemu/tracking-image.ts';
import { stampOf } from './images.ts';

void test('the stamp of a tracking image is that of its raw file, too', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'us-images-'));
  try {
    const raw = join(directory, 'vda.raw');
    const path = `${raw}${TRACKING_SUFFIX}`;
    const disks = [{ target: 'vda', path, format: 'qcow2', size: 4 }];
    for (const file of [raw, path]) await writeFile(file, 'abcd');
    const first = await stampOf(disks);
    assert.ok(first !== undefined);
    await utimes(raw, 1, 1);
    assert.notEqual(await stampOf(disks), first);
    await rm(raw); // a block device's image lies elsewhere
    assert.equal(await stampOf(disks), undefined);
  } finally {
    await rm(directory, { recursive: true });
  }
});

void test('the stamp of images is the same until one is written, replaced or gone', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'us-images-'));
  try {
    const disks = ['vda', 'vdb'].map((target) => ({ target, path: join(directory, target), format: 'raw', size: 4 }));
    for (const { path } of disks) await writeFile(path, 'abcd');
    const first = await stampOf(disks);
    assert.ok(first !== undefined);
    assert.equal(await stampOf(disks), first);
    const path = disks[1]!.path;
    // A file system's clock has ticks.
    const changed = async () => {
      const file = await open(path, 'r+');
      await file.write('x', 1);
      await file.close();
      return (await stampOf(disks)) !== first;
    };
    await until(changed, { timeoutMs: 2000, everyMs: 5, onTimeout: () => new Error('a write is not seen') });
    const second = await stampOf(disks);
    await writeFile(`${path}.new`, 'abcd');
    await rename(`${path}.new`, path);
    assert.notEqual(await stampOf(disks), second);
    await rm(path);
    assert.equal(await stampOf(disks), undefined);
    assert.equal(await stampOf([{ ...disks[0]!, path: '/dev/null' }]), undefined);
  } finally {
    await rm(directory, { recursive: true });
  }
});
