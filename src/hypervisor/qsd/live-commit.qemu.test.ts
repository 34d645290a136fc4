import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkImage, createImage } from '../../qemu/image.ts';
import { NbdClient } from '../../qemu/nbd/client.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import { commitLive } from './live-commit.ts';

const SIZE = 16 * 1024 * 1024;
const CLUSTER = 65_536;

async function withClient(socketPath: string, work: (client: NbdClient) => Promise<void>): Promise<void> {
  const client = await NbdClient.connect({ socketPath, exportName: 'vda' });
  try {
    await work(client);
  } finally {
    await client.close();
  }
}

test('when the daemon is killed once the commit is settled, the lower image holds everything', async (context) => {
  const directory = await mkdtemp(join(tmpdir(), 'us-commit-'));
  context.after(async () => await rm(directory, { recursive: true }));
  const lower = { path: join(directory, 'lower.qcow2'), format: 'qcow2' } as const;
  const overlay = join(directory, 'overlay.qcow2');
  await createImage(lower.path, SIZE, { format: 'qcow2' });
  await createImage(overlay, SIZE, { format: 'qcow2', backing: lower });
  const daemon = await StorageDaemon.start({ directory, name: 'a' });
  context.after(async () => await daemon.stop());
  await daemon.openImage({ node: 'vda', path: overlay, format: 'qcow2', readOnly: false });
  await daemon.exportNode({ node: 'vda', exportName: 'vda', writable: true });
  await withClient(daemon.nbdSocket, async (client) => {
    for (let i = 0; i < 100; i++) await client.write(2 * i * CLUSTER, Buffer.alloc(4096, i + 1));
  });
  let settled: unknown;
  const commit = commitLive(daemon, 'vda', 'vda', async (to) => {
    settled = to;
    await daemon.kill();
  });
  await assert.rejects(commit, { code: 'disk-engine' });
  assert.deepEqual(settled, lower);

  assert.equal((await checkImage(lower.path)).corruptions, 0);
  const second = await StorageDaemon.start({ directory, name: 'b' });
  context.after(async () => await second.stop());
  await second.openImage({ node: 'vda', path: lower.path, format: 'qcow2', readOnly: true });
  await second.exportNode({ node: 'vda', exportName: 'vda', writable: false });
  await withClient(second.nbdSocket, async (client) => {
    for (let i = 0; i < 100; i++) {
      assert.ok((await client.read(2 * i * CLUSTER, 4096)).equals(Buffer.alloc(4096, i + 1)), `cluster ${2 * i}`);
    }
  });
});
