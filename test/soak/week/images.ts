/** What an administrator does to a VM's disks. */
import assert from 'node:assert/strict';
import { until } from '../../../src/lib/clock.ts';
import { VM, eventsOf, look, type Replication } from '../../system/two-hosts.ts';
import type { Operation } from './operations.ts';
import { shutDown } from './power.ts';
import { THIRD, type Week } from './world.ts';

const MIB = 1024 * 1024;
const SMALLEST_MIB = 64;
const LARGEST_MIB = 96;
const PATIENCE_MS = 120_000;

async function externalSnapshotAndCommit(week: Week): Promise<void> {
  const targets = [...(await week.disks()).keys()];
  const overlays = targets.map((target) => [target, week.file(`${target}-overlay`)] as const);
  const specs = overlays.flatMap(([target, path]) => ['--diskspec', `${target},file=${path}`]);
  await week.virsh('snapshot-create-as', VM, 'external', '--disk-only', '--atomic', '--no-metadata', ...specs);
  for (const [target, path] of overlays) {
    await week.virsh('blockcommit', VM, target, '--active', '--pivot', '--wait');
    week.remove(path);
  }
}

async function moveDisk(week: Week): Promise<void> {
  const [target, from] = [...(await week.disks())][week.random(2)]!;
  const to = week.file(`${target}-moved`);
  const copy = ['--dest', to, '--format', 'qcow2', '--transient-job', '--pivot', '--wait'];
  await week.virsh('blockcopy', VM, target, ...copy);
  week.remove(from);
}

async function sizeOf({ hosts: { a } }: Week, target: string): Promise<number> {
  const disk = (await look(a)).disks.find((one) => one.target === target);
  return disk!.size / MIB;
}

/** `virsh snapshot-revert`: QEMU refuses it because of our bitmap, which is out of its way at once; the hint says to revert again. */
async function revert(week: Week): Promise<void> {
  const { a } = week.hosts;
  await week.virsh('snapshot-create-as', VM, 'internal');
  const cleared = async () => (await eventsOf(a)).filter((event) => event.startsWith('revert-cleared: ')).length;
  const before = await cleared();
  await assert.rejects(a.host.virsh('snapshot-revert', VM, 'internal'), /bitmap/i);
  await until(async () => (await cleared()) > before, {
    timeoutMs: PATIENCE_MS,
    onTimeout: () => new Error(`nobody says that the revert works now\n${a.lastWords()}`),
  });
  await a.host.virsh('snapshot-revert', VM, 'internal');
  await week.virsh('snapshot-delete', VM, 'internal');
}

export const IMAGE_OPERATIONS: readonly Operation[] = [
  { name: 'external snapshot, blockcommit', perform: externalSnapshotAndCommit },
  { name: 'blockcopy, pivot', perform: moveDisk },
  {
    name: 'internal snapshot, deleted',
    async perform(week) {
      await week.virsh('snapshot-create-as', VM, 'internal');
      await week.virsh('snapshot-delete', VM, 'internal');
    },
  },
  { name: 'internal snapshot, reverted, deleted', compares: true, perform: revert },
  {
    name: 'disk resized while the guest runs',
    async perform(week) {
      const size = await sizeOf(week, 'vdb');
      await week.virsh('blockresize', VM, 'vdb', `${size < LARGEST_MIB ? size + 8 : size}M`);
    },
  },
  {
    name: 'disk resized while the guest is off',
    async perform(week) {
      const size = await sizeOf(week, 'vdb');
      const path = (await week.disks()).get('vdb')!;
      await shutDown(week);
      const to = size > SMALLEST_MIB ? SMALLEST_MIB : LARGEST_MIB;
      await week.run('qemu-img', 'resize', '-q', '-f', 'qcow2', '--shrink', path, `${to}M`);
      await week.virsh('start', VM);
    },
  },
  {
    name: 'disk plugged in and out',
    async perform(week) {
      const path = await week.plugNew('vdd');
      const isSaid = ({ healthReasons }: Pick<Replication, 'healthReasons'>) => healthReasons.join().includes('vdd');
      await week.hosts.a.waitFor(VM, 'told of vdd', isSaid, PATIENCE_MS);
      await week.unplug('vdd');
      week.remove(path);
    },
  },
  {
    name: 'disk plugged out and in',
    async perform(week) {
      const path = (await week.disks()).get(THIRD)!;
      await week.unplug(THIRD);
      await week.hosts.a.waitFor(
        VM,
        'told what is missing',
        ({ failure }) => failure?.code === 'disk-removed',
        PATIENCE_MS,
      );
      await week.plug(path, THIRD);
    },
  },
];
