/**
 * Disks that change under us: resized on the primary, running and off. The replica's follow within a cycle, older recovery points keep
 * the shape and the bytes that they had.
 */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { rmSync } from 'node:fs';
import { LabGuest } from '../../lab/guest/guest.ts';
import { until } from '../../src/lib/clock.ts';
import { assertByteEqual, contentOf, pointsOf } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, hurry, look, protectedNow } from '../system/two-hosts.ts';

const MIB = 1024 * 1024;
const FOLLOW_MS = 30_000;

const stage = stages();
let hosts: TwoHosts;
/** Points as they were read when they were made: digests by name of disk and point. */
const kept = new Map<number, Record<string, string>>();

before(async () => {
  hosts = await TwoHosts.create('guest-disks.test', { guest: { vda: { sizeMiB: 64 } } });
  await hosts.replicate();
  await protectedNow(hosts.a);
});
after(() => hosts?.[Symbol.asyncDispose]());

/** Reads the latest point, to be compared with what is read of it later. */
async function keepLatest(): Promise<number> {
  const { sequence } = (await pointsOf(hosts.b))[0]!;
  kept.set(sequence, await contentOf(hosts.b, hosts.scratch, [sequence]));
  return sequence;
}

async function assertKept(): Promise<void> {
  for (const [sequence, content] of kept) {
    assert.deepEqual(await contentOf(hosts.b, hosts.scratch, [sequence]), content, `point ${sequence} as it was`);
  }
}

/** Bytes that a disk has at a recovery point. */
async function sizeAt(point: number, disk: string): Promise<number> {
  const file = join(hosts.scratch, `size-${disk}-${point}.raw`);
  await hosts.b.act('pointExport', { ref: VM, point, disk, file, format: 'raw' });
  const { size } = statSync(file);
  rmSync(file);
  return size;
}

/** The replica's disk has become so large. */
async function follows(disk: string, size: number): Promise<void> {
  await hurry(hosts.a);
  const sizeThere = async () => (await look(hosts.b)).disks.find(({ target }) => target === disk)?.size;
  await until(async () => (await sizeThere()) === size, {
    timeoutMs: FOLLOW_MS,
    onTimeout: () => new Error(`${disk} does not follow\n${hosts.a.lastWords()}\n${hosts.b.lastWords()}`),
  });
}

/** Nothing was copied as a whole, or compared. */
async function assertNoCopy(): Promise<void> {
  const { state, healthReasons } = await look(hosts.a);
  // A guest that is switched off and on again without a processor of its own may be too slow for some cycles.
  const wrong = healthReasons.filter((reason) => !/cycles were missed/.test(reason));
  assert.deepEqual({ state, wrong }, { state: 'Replicating', wrong: [] });
  const events = await eventsOf(hosts.a);
  assert.deepEqual(
    events.filter((event) => /^(comparing|catching-up)/.test(event)),
    [],
  );
}

stage('a disk that grows while the guest runs', async () => {
  const { a, b, guest, scratch } = hosts;
  const before = await keepLatest();
  await a.host.virsh('blockresize', VM, 'vda', '96M');
  await follows('vda', 96 * MIB);
  await guest.agent.exec(['/bin/sh', '-c', 'dd if=/dev/urandom of=/dev/vda bs=64k seek=1400 count=16']);
  await protectedNow(a);
  await assertByteEqual(a, b, scratch);
  const [latest] = await pointsOf(b);
  assert.equal(await sizeAt(latest!.sequence, 'vda'), 96 * MIB);
  assert.equal(await sizeAt(before, 'vda'), 64 * MIB);
  await assertKept();
  await assertNoCopy();
});

stage('a disk that is cut while the guest is off, with data in what is cut off', async () => {
  const { a, b, guest, scratch } = hosts;
  await protectedNow(a);
  const before = await keepLatest();
  await guest.shutdown();
  await a.host.succeed(['qemu-img', 'resize', '-f', 'qcow2', '--shrink', guest.disk('vda'), '80M']);
  await follows('vda', 80 * MIB);
  await guest.start();
  await protectedNow(a);
  await assertByteEqual(a, b, scratch);
  assert.equal(await sizeAt(before, 'vda'), 96 * MIB);
  await assertKept();
  await assertNoCopy();
});

stage(
  'a failover to a point before the disk was cut starts the guest on the larger disk, and is cancelled',
  async () => {
    const { a, b, guestOnB, scratch } = hosts;
    const older = [...kept.keys()].at(-1)!;
    await a.host.cut();
    await b.waitFor(VM, 'alone', ({ peerStatus }) => peerStatus?.reachable !== true);
    await b.act('unplannedFailover', { ref: VM, point: older });
    await guestOnB.agent.wait();
    const inside = await guestOnB.agent.exec(['/bin/sh', '-c', 'cat /sys/block/vda/size']);
    assert.equal(Number(inside.stdout) * 512, 96 * MIB);
    await b.act('cancelFailover', { ref: VM });
    await a.host.heal();
    await a.waitFor(VM, 'replicating', ({ state, vmState }) => state === 'Replicating' && vmState === 'running');
    await protectedNow(a);
    await assertByteEqual(a, b, scratch);
    await assertKept();
  },
);

stage('a test failover of a point has its sizes', async () => {
  const { b } = hosts;
  const [oldest] = kept.keys();
  const copy = new LabGuest(b.host, `${VM} - Test`);
  await b.act('testFailoverStart', { ref: VM, point: oldest! });
  await copy.agent.wait();
  const inside = await copy.agent.exec(['/bin/sh', '-c', 'cat /sys/block/vda/size']);
  await b.act('testFailoverStop', { ref: VM });
  assert.equal(Number(inside.stdout) * 512, 64 * MIB);
});
