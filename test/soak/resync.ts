/** A comparison of a large disk, killed ten times: it never starts over, sends what differs, and no point is lost or changed. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { openStore } from '../../src/daemon/open-store.ts';
import { TwoHosts } from '../faults/two-hosts.ts';
import { serveHypervisors } from '../faults/remote-hypervisor.ts';
import { VM } from '../faults/vm-hosts.ts';
import type { Campaign } from './campaign.ts';
import { BLOCK, LargeDisk } from './large-disk.ts';

const MIB = 2 ** 20;
const SIZE = 8 * 2 ** 30;
/** 1 % of the disk. */
const DIFFERENT = Math.round(SIZE / BLOCK / 100);
const SLICE = 2 * MIB;
const KILLS = 10;
const PROCESS = join(import.meta.dirname, '../faults/two-hosts-process.ts');

/** Both daemons in another process, until it dies there. */
async function die(disk: LargeDisk, crash: string): Promise<void> {
  const { directory, hypervisors } = disk.vm.vms;
  const task = JSON.stringify({ kind: 'replicate', primary: 'a' });
  const child = fork(PROCESS, [directory, disk.vm.id, task], {
    env: { ...process.env, UNDERSTUDY_CRASH: crash, DIES: 'daemon' },
    execArgv: [],
    serialization: 'advanced',
  });
  const settled = serveHypervisors(child, hypervisors);
  const [, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  await settled();
  assert.equal(signal, 'SIGKILL', `${crash} was never reached`);
}

/** What the primary remembers, while no daemon runs. */
async function remembered({ vm }: LargeDisk) {
  const { store } = await openStore(join(vm.vms.directory, 'a', 'understudy.sqlite'), Date.now());
  try {
    return store.relationship(vm.id)!;
  } finally {
    store.close();
  }
}

export const resync: Campaign = {
  name: 'resync',
  about: 'an 8 GiB disk with 1 % different blocks is compared, with kill -9 of both daemons ten times in the middle',
  async round({ seed, progress }) {
    process.env['SLICE_BYTES'] = String(SLICE);
    const disk = await LargeDisk.begin(seed, SIZE);
    const { vm } = disk;
    try {
      await disk.write(1000);
      await disk.replicated();
      await disk.write(50);
      await disk.replicated();
      const before = await disk.checkPoints();
      await vm.hosts.a.services.primaries.stop(vm.id);
      await vm.hosts.close();
      await disk.write(DIFFERENT);
      const { bitmap, statistics } = await remembered(disk);
      await vm.vms.hypervisors.a.dropBitmap(VM, bitmap!);
      let compared = 0;
      for (let kill = 1; kill <= KILLS; kill++) {
        await die(disk, kill % 3 === 0 ? 'slice:opened' : 'acknowledged:stored');
        const { copy } = await remembered(disk);
        assert.ok(copy !== null && copy.blocksCompared >= compared, 'it goes on where it was');
        compared = copy.blocksCompared;
        progress(`killed ${kill} times, ${compared} blocks compared`);
      }
      assert.ok(compared > 0);
      vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
      await vm.hosts.begin();
      const began = performance.now();
      await disk.replicated();
      const seconds = (performance.now() - began) / 1000;
      assert.equal(vm.count('a', 'comparing'), 1, 'it was begun once');
      assert.ok((await disk.checkPoints()) >= before + 1, 'every point from before is there, as it was, and a new one');
      const sent = vm.record('a').statistics.sentBytes - statistics.sentBytes;
      const most = 1.05 * DIFFERENT * BLOCK + 0.001 * SIZE;
      assert.ok(sent <= most, `${sent} bytes were sent, at most ${most} were to be`);
      return (
        `8 GiB, ${DIFFERENT} blocks (${((DIFFERENT * BLOCK) / MIB).toFixed(1)} MiB) different: ${(sent / MIB).toFixed(1)} MiB sent ` +
        `(bound ${(most / MIB).toFixed(1)}), killed ${KILLS} times, never begun anew; ${before} points before, all equal after; ` +
        `${seconds.toFixed(1)} s from the last kill on`
      );
    } finally {
      delete process.env['SLICE_BYTES'];
      await disk.dispose();
    }
  },
};
