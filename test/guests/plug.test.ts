/** Disks that are plugged in and out of a running, protected VM: what can go on does, the rest is said with its cure. */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { until } from '../../src/lib/clock.ts';
import { insist, isGone, plugging, unplugging } from '../system/administrator.ts';
import { assertByteEqual, contentOf, pointsOf } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, look, protectedNow } from '../system/two-hosts.ts';

const MIB = 1024 * 1024;
const PATIENCE_MS = 60_000;
const [FIRST, SECOND, ADDED] = ['first', 'second', 'added'].map((name) => `/var/lib/libvirt/images/${name}.qcow2`);

const stage = stages();
let hosts: TwoHosts;
let early: { readonly sequence: number; readonly content: Record<string, string>; readonly disks: readonly string[] };

before(async () => {
  hosts = await TwoHosts.create('guest-plug.test');
  for (const path of [FIRST!, SECOND!, ADDED!]) {
    await hosts.a.host.succeed(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '16M']);
    await hosts.a.host.succeed(['qemu-io', '-f', 'qcow2', '-c', `write -P ${path.length} 0 1M`, path]);
  }
  await plug(FIRST!, 'vdc');
  await hosts.replicate();
  await protectedNow(hosts.a);
});
after(() => hosts?.[Symbol.asyncDispose]());

const asAdministrator = (words: readonly string[]) => insist(() => hosts.a.host.virsh(...words));
const plug = (path: string, target: string) => asAdministrator(plugging(path, target));

async function unplug(target: string): Promise<void> {
  await asAdministrator(unplugging(target));
  await isGone(hosts.a.host, target);
}

/** Replication has stopped at the removal, and says why. */
async function saysRemoved(): Promise<void> {
  const { a } = hosts;
  await a.waitFor(VM, 'told', ({ failure }) => failure?.code === 'disk-removed', PATIENCE_MS);
  const { failure, health } = await look(a);
  assert.notEqual(health, 'normal');
  assert.match(failure?.message ?? '', /web has lost its disk vdc/);
  assert.match(failure?.hint ?? '', /Attach the disk again/);
}

const compared = async () => (await eventsOf(hosts.a)).filter((event) => event.startsWith('comparing:'));

async function isWhole(): Promise<void> {
  const { a, b, scratch } = hosts;
  await protectedNow(a, PATIENCE_MS);
  await assertByteEqual(a, b, scratch);
  assert.deepEqual(
    await contentOf(b, scratch, [early.sequence], early.disks),
    early.content,
    'an older point is what it was',
  );
}

stage(
  'a disk that is taken out stops replication, in words; it goes on without a comparison when it is back',
  async () => {
    const { b, scratch } = hosts;
    const { sequence } = (await pointsOf(b))[0]!;
    const disks = (await b.show(VM)).disks.map(({ target }) => target);
    early = { sequence, content: await contentOf(b, scratch, [sequence]), disks };
    await unplug('vdc');
    await saysRemoved();
    await plug(FIRST!, 'vdc');
    await isWhole();
    assert.deepEqual(await compared(), []);
  },
);

stage('a disk that is gone for good is left out when somebody says so; points from before have it', async () => {
  const { a, b, scratch } = hosts;
  const there = (await b.show(VM)).disks.map(({ target }) => target);
  assert.ok(there.includes('vdc'));
  await unplug('vdc');
  await saysRemoved();
  await a.client.call('replicationSet', { ref: VM, excludeDisks: ['vdc'] });
  await protectedNow(a, PATIENCE_MS);
  await assertByteEqual(a, b, scratch);
  assert.ok(!(await look(a)).disks.some(({ target }) => target === 'vdc'));
  const latest = (await pointsOf(b))[0]!.sequence;
  for (const [point, has] of [
    [early.sequence, true],
    [latest, false],
  ] as const) {
    await b.act('testFailoverStart', { ref: VM, point });
    const listed = await b.host.virsh('domblklist', `${VM} - Test`);
    assert.equal(listed.includes('vdc'), has, `point ${point}: ${listed}`);
    await b.act('testFailoverStop', { ref: VM });
  }
  assert.deepEqual(await compared(), []);
  // Back again: it is compared with what is there of it, the others are not.
  await plug(FIRST!, 'vdc');
  await a.client.call('replicationSet', { ref: VM, includeDisks: ['vdc'] });
  const joined = async () => (await eventsOf(a)).some((event) => event.startsWith('disk-joined:'));
  await until(joined, { timeoutMs: PATIENCE_MS, everyMs: 500, onTimeout: () => new Error(a.lastWords()) });
  await isWhole();
  assert.deepEqual(await compared(), []);
});

stage('a disk in the place of another one is compared, and the others are not copied', async () => {
  const { a } = hosts;
  const { sentBytes } = (await look(a)).statistics;
  await unplug('vdc');
  await saysRemoved();
  await plug(SECOND!, 'vdc');
  await isWhole();
  const { disks, statistics } = await look(a);
  assert.equal(disks.find(({ target }) => target === 'vdc')?.path, SECOND);
  assert.equal((await compared()).length, 1);
  assert.ok(statistics.sentBytes - sentBytes < 16 * MIB, `${statistics.sentBytes - sentBytes} bytes sent`);
});

stage('a disk that is added is said to be in no recovery point, until it is gone again', async () => {
  const { a } = hosts;
  await plug(ADDED!, 'vdd');
  const told = await a.waitFor(VM, 'told', ({ healthReasons }) => healthReasons.join().includes('vdd'), PATIENCE_MS);
  assert.deepEqual([told.health, told.state], ['warning', 'Replicating']);
  assert.match((await eventsOf(a)).join('\n'), /disk-unprotected: disk vdd was added to web/);
  await isWhole();
  await unplug('vdd');
  await a.waitFor(VM, 'sound', ({ health }) => health === 'normal', PATIENCE_MS);
});

stage('a disk that is added is replicated when somebody asks for it; the others are not copied', async () => {
  const { a, b } = hosts;
  const comparisons = (await compared()).length;
  const { sentBytes } = (await look(a)).statistics;
  await plug(ADDED!, 'vdd');
  await a.client.call('replicationSet', { ref: VM, includeDisks: ['vdd'] });
  const joined = async () => (await eventsOf(a)).some((event) => /^disk-joined: .*vdd/.test(event));
  await until(joined, { timeoutMs: PATIENCE_MS, everyMs: 500, onTimeout: () => new Error(a.lastWords()) });
  await isWhole();
  const { statistics, healthReasons, disks } = await look(a);
  assert.ok(statistics.sentBytes - sentBytes < 16 * MIB, `${statistics.sentBytes - sentBytes} bytes sent`);
  assert.ok(disks.some(({ target }) => target === 'vdd'));
  assert.doesNotMatch(healthReasons.join(), /vdd/);
  assert.equal((await compared()).length, comparisons);
  // The Replica VM has it, with what its definition says of it.
  const defined = async () => /target dev='vdd' bus='virtio'/.test(await b.host.virsh('dumpxml', VM));
  await until(defined, { timeoutMs: PATIENCE_MS, everyMs: 500, onTimeout: () => new Error(b.lastWords()) });
  // A point from before starts without it.
  const latest = (await pointsOf(b))[0]!.sequence;
  for (const [point, has] of [
    [early.sequence, false],
    [latest, true],
  ] as const) {
    await b.act('testFailoverStart', { ref: VM, point });
    const there = await b.host.virsh('domblklist', `${VM} - Test`);
    assert.deepEqual([there.includes('vdd'), there.includes('vdc')], [has, true], `point ${point}: ${there}`);
    await b.act('testFailoverStop', { ref: VM });
  }
});
