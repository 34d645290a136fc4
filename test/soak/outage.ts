/** The link is cut while the guest writes three times what its disk holds: replication comes back by itself, without a comparison. */
import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Campaign } from './campaign.ts';
import { BLOCK, withLargeDisk } from './large-disk.ts';

const MIB = 2 ** 20;
const SIZE = 256 * MIB;
/** Most that the outbox may take. */
const CAP = 4 * MIB;
const STEPS = 12;

/** Bytes of all files below a directory; none where there is none. */
async function bytesBelow(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  });
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => stat(join(parentPath, name)));
  return (await Promise.all(files)).reduce((sum, { size }) => sum + size, 0);
}

export const outage: Campaign = {
  name: 'outage',
  about: "churn of 3 x the disk's size behind a cut link, and the way back",
  async round({ seed, progress }) {
    return await withLargeDisk({ seed, size: SIZE, slice: CAP, first: 200, second: 20 }, async (disk) => {
      const { vm } = disk;
      vm.hosts.a.outboxLimit = CAP;
      vm.hosts.cut = true;
      let most = 0;
      for (let step = 1; step <= STEPS; step++) {
        // Each place once in a step; three disks' sizes in all.
        await disk.write((3 * SIZE) / STEPS / BLOCK);
        vm.hosts.a.services.primaries.loop(vm.id).wake();
        const kept = ['outbox', 'digests'].map((name) => bytesBelow(join(vm.vms.directory, 'a', name)));
        most = Math.max(
          most,
          (await Promise.all(kept)).reduce((sum, one) => sum + one, 0),
        );
        progress(`${step} of ${STEPS} written, the primary keeps ${Math.round(most / 1024)} KiB`);
      }
      assert.ok(most <= CAP + 0.0003 * SIZE, `the primary kept ${most} bytes`);
      const points = await disk.checkPoints();
      const began = performance.now();
      vm.hosts.cut = false;
      await disk.replicated();
      const seconds = (performance.now() - began) / 1000;
      assert.equal(vm.count('a', 'comparing'), 0);
      assert.equal(vm.count('a', 'resync-required'), 0);
      assert.ok((await disk.checkPoints()) > points, 'points from before are there, and a new one');
      const shown = await vm.hosts.a.ask('replicationShow', { ref: vm.id });
      assert.equal(shown.state, 'Replicating');
      return (
        `${SIZE / MIB} MiB disk, ${(3 * SIZE) / MIB} MiB written behind the cut; the primary kept ${Math.round(most / 1024)} KiB at most ` +
        `(cap ${CAP / 1024} + 0.03 % = ${Math.round((CAP + 0.0003 * SIZE) / 1024)}); Replicating again by itself in ${seconds.toFixed(1)} s`
      );
    });
  },
};
