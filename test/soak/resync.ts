/** A comparison of a large disk, killed ten times: it never starts over, sends what differs, and no point is lost or changed. */
import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { openStore } from '../../src/daemon/open-store.ts';
import { sleep } from '../../src/lib/clock.ts';
import { seeded } from '../faults/replica-primary.ts';
import { TwoHosts } from '../faults/two-hosts.ts';
import { serveHypervisors } from '../faults/remote-hypervisor.ts';
import { VM } from '../faults/vm-hosts.ts';
import type { Campaign } from './campaign.ts';
import { feltByGuest } from './guest-load.ts';
import { BLOCK, type LargeDisk, withLargeDisk } from './large-disk.ts';

const MIB = 2 ** 20;
const SIZE = 8 * 2 ** 30;
/** 1 % of the disk. */
const DIFFERENT = Math.round(SIZE / BLOCK / 100);
const SLICE = 2 * MIB;
/** Kills at any moment, the first ms after a daemon has begun to work on the VM; and those at places besides. */
const KILLS = 10;
const MOMENTS_MS = 2000;
const PLACES = ['acknowledged:stored', 'slice:opened', 'acknowledged:stored', 'slice:acknowledged'];
const PROCESS = join(import.meta.dirname, '../faults/two-hosts-process.ts');

/** Both daemons in another process, until it dies there: at a crash point, or so many ms after it has begun. */
async function die(disk: LargeDisk, at: { readonly crash: string } | { readonly afterMs: number }): Promise<void> {
  const { directory, hypervisors } = disk.vm.vms;
  const task = JSON.stringify({ kind: 'replicate', primary: 'a' });
  const crash = 'crash' in at ? { UNDERSTUDY_CRASH: at.crash } : {};
  const child = fork(PROCESS, [directory, disk.vm.id, task], {
    env: { ...process.env, ...crash, DIES: 'daemon' },
    execArgv: [],
    serialization: 'advanced',
  });
  const settled = serveHypervisors(child, hypervisors);
  const exit = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  if ('afterMs' in at) await killAt(child, at.afterMs);
  const [code, signal] = await exit;
  await settled();
  assert.equal(signal, 'SIGKILL', `it ended with ${code} before it was killed (${JSON.stringify(at)})`);
}

/** The first thing that it asks for is its VM: both hosts have begun. */
async function killAt(child: ChildProcess, afterMs: number): Promise<void> {
  await Promise.race([once(child, 'message'), once(child, 'exit')]);
  await sleep(afterMs); // not a wait for anything: any moment will do
  child.kill('SIGKILL');
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
  about:
    'an 8 GiB disk with 1 % different blocks is compared, with kill -9 of both daemons in the middle; what its guest feels',
  async round({ seed, progress }) {
    const random = seeded(seed + 1);
    return await withLargeDisk({ seed, size: SIZE, slice: SLICE, first: 1000, second: 50 }, async (disk) => {
      const { vm } = disk;
      const before = await disk.checkPoints();
      await vm.hosts.a.services.primaries.stop(vm.id);
      await vm.hosts.close();
      await disk.write(DIFFERENT);
      const { bitmap, statistics } = await remembered(disk);
      await vm.vms.hypervisors.a.dropBitmap(VM, bitmap!);
      let compared = 0;
      const killed = async (at: Parameters<typeof die>[1]) => {
        await die(disk, at);
        const { copy } = await remembered(disk);
        assert.ok(copy !== null && copy.blocksCompared >= compared, 'it goes on where it was');
        compared = copy.blocksCompared;
        progress(`killed ${'crash' in at ? `at ${at.crash}` : `after ${at.afterMs} ms`}, ${compared} blocks compared`);
      };
      // The first one at a place: the comparison has begun then.
      for (const crash of PLACES) await killed({ crash });
      for (let kill = 1; kill <= KILLS; kill++) await killed({ afterMs: Math.round(random() * MOMENTS_MS) });
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
      progress(`${(sent / MIB).toFixed(1)} MiB sent, ${seconds.toFixed(1)} s from the last kill on`);
      // Last of all: what it writes nobody keeps account of. In slices as they are by default.
      await vm.hosts.close();
      process.env['SLICE_BYTES'] = String(256 * MIB);
      vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
      await vm.hosts.begin();
      const felt = await feltByGuest(vm, progress);
      return (
        `8 GiB, ${DIFFERENT} blocks (${((DIFFERENT * BLOCK) / MIB).toFixed(1)} MiB) different: ${(sent / MIB).toFixed(1)} MiB sent ` +
        `(bound ${(most / MIB).toFixed(1)}), killed ${KILLS} times at any moment and ${PLACES.length} times at a place, never begun anew; ` +
        `${before} points before, all equal after; ${seconds.toFixed(1)} s from the last kill on; ${felt}`
      );
    });
  },
};
