import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { selectModules } from './kernel-modules.ts';

test('modules come after those they need; what is built in is left out; what is nowhere is named', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'us-modules-'));
  const module = (name: string, depends: string) =>
    writeFileSync(join(directory, 'kernel', `${name}.ko`), `\x7fELF\0license=GPL\0depends=${depends}\0name=${name}\0`);
  try {
    mkdirSync(join(directory, 'kernel'));
    writeFileSync(join(directory, 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio.ko\n');
    module('virtio-rng', 'virtio,rng-core');
    module('rng-core', '');
    module('virtio_blk', 'virtio_ring');
    module('virtio_ring', 'virtio');
    const selected = await selectModules(directory, ['virtio_rng', 'virtio_blk', 'ext4']);
    assert.deepEqual(
      selected.map(({ name }) => name),
      ['rng_core', 'virtio_rng', 'virtio_ring', 'virtio_blk'],
    );
    await assert.rejects(selectModules(directory, ['nowhere']), /no module "nowhere"/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
