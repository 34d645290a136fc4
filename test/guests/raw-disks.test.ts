/**
 * A VM with a raw disk on a libvirt that can track it: put under tracking at a power-off, replicated, failed over and back, and given back as
 * the plain raw disk that it always was. The other host has the libvirt of this release, which knows nothing of such disks.
 */
import assert from 'node:assert/strict';
import { existsSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { LabGuest } from '../../lab/guest/guest.ts';
import { backportsOrWhyNot } from '../../lab/hosts/backports.ts';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { assertByteEqual, pointsOf } from '../system/equality.ts';
import { assertRecordsGood } from '../system/records-inside.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, hurry, look, protectedNow, type Replication } from '../system/two-hosts.ts';

const MIB = 1024 * 1024;
const PATIENCE_MS = 60_000;
const REVERSE_MS = 120_000;
const RAW = '/var/lib/libvirt/images/vda.raw';
const IMAGE = `${RAW}.understudy.qcow2`;
const VDA = { vm: VM, disk: 'vda' };

const stage = stages();
let hosts: TwoHosts;

const newer = await backportsOrWhyNot();

after(() => hosts?.[Symbol.asyncDispose]());

/** The guest's first disk becomes a raw one; its machine is one that the other host's QEMU knows. */
async function makeRaw(guest: LabGuest): Promise<void> {
  const { host } = guest;
  const path = guest.disk('vda');
  await host.succeed(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', path, RAW]);
  rmSync(host.path(path));
  const xml = await host.virsh('dumpxml', '--inactive', VM);
  const raw = xml.replace("type='qcow2'", "type='raw'").replace(path, RAW);
  await host.define(raw.replace(/machine='[^']*'/, "machine='pc-i440fx-7.2'"));
}

/** What the VM is defined on, for its next start. */
async function defined(): Promise<string> {
  return await hosts.a.host.virsh('domblklist', '--inactive', VM);
}

/** Says so once it has happened, of a VM that was off then. */
async function isUnderTracking(): Promise<void> {
  const told = async () => (await hosts.a.client.call('eventList', { limit: 10 })).map(({ kind }) => kind);
  await until(async () => (await told()).includes('raw-disk-tracked'), {
    timeoutMs: PATIENCE_MS,
    onTimeout: () => new Error(`vda is not under tracking\n${hosts.a.lastWords()}`),
  });
  assert.match(await defined(), /vda\.raw\.understudy\.qcow2$/m);
}

/** Of a VM that is off: what the raw disk holds is what the latest point reads as. */
async function assertRawReplicated(after: number): Promise<void> {
  const { a, b, scratch } = hosts;
  const file = join(scratch, 'vda.raw');
  await until(async () => ((await pointsOf(b))[0]?.confirmed ?? 0) >= after, {
    timeoutMs: PATIENCE_MS,
    onTimeout: () => new Error(`b has no point of ${after}\n${a.lastWords()}`),
  });
  const { sequence } = (await pointsOf(b))[0]!;
  await b.act('pointExport', { ref: VM, point: sequence, disk: 'vda', file, format: 'raw' });
  await a.host.succeed(['qemu-img', 'compare', '-f', 'raw', '-F', 'raw', RAW, file]);
  rmSync(file);
}

async function failOver(from: 'a' | 'b', to: 'a' | 'b'): Promise<void> {
  await hosts[from].act('plannedFailover', { ref: VM, shutdownTimeoutSeconds: 60 });
  const isPrimary = ({ role, state }: Replication) => role === 'primary' && state === 'Replicating';
  await hosts[to].waitFor(VM, 'replicating back', isPrimary, REVERSE_MS);
  const guest = to === 'a' ? hosts.guest : hosts.guestOnB;
  await guest.agent.wait();
  await assertRecordsGood(guest);
}

if (newer instanceof Failure)
  test('raw disks on the libvirt of the backports', { skip: newer.message }, () => undefined);
else allOn(newer);

function allOn(usr: string): void {
  stage('a raw disk is refused by name, with the way out', async () => {
    hosts = await TwoHosts.create('guest-raw-disks.test', { usr: { a: usr }, prepare: makeRaw });
    await assert.rejects(hosts.enable(), (error: unknown) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.code, 'disk-unsupported');
      assert.match(error.message, /disk vda: its format is raw/);
      assert.match(error.hint, /understudy vm track web --disk vda/);
      return true;
    });
  });

  stage('put under tracking while the guest runs, it waits for the power-off, and can be taken back', async () => {
    const { a, guest } = hosts;
    const asked = await a.client.call('vmTrackDisk', VDA);
    assert.deepEqual([asked.raw, asked.image, asked.state], [RAW, IMAGE, 'tracked-at-power-off']);
    assert.equal((await a.client.call('vmUntrackDisk', VDA)).state, 'plain');
    assert.equal((await a.client.call('vmTrackDisk', VDA)).state, 'tracked-at-power-off');
    assert.match(await defined(), /vda\.raw$/m);
    assert.ok(!existsSync(a.host.path(IMAGE)));
    await guest.shutdown();
    await isUnderTracking();
    await guest.start();
    await assertRecordsGood(guest);
  });

  stage(
    'it is replicated, byte for byte, and followed when it is resized; the Replica VM has a plain image',
    async () => {
      const { a, b, scratch } = hosts;
      await hosts.replicate();
      await protectedNow(a);
      await assertByteEqual(a, b, scratch);
      assert.doesNotMatch(await b.host.virsh('dumpxml', '--inactive', VM), /dataStore|understudy\.qcow2/);
      await a.host.virsh('blockresize', VM, 'vda', `${80 * MIB}B`);
      assert.equal(statSync(a.host.path(RAW)).size, 80 * MIB);
      await hurry(a);
      await protectedNow(a);
      await assertByteEqual(a, b, scratch);
      assert.equal((await look(b)).disks.find(({ target }) => target === 'vda')?.size, 80 * MIB);
      await assert.rejects(a.client.call('vmUntrackDisk', VDA), { code: 'wrong-state' });
    },
  );

  stage('failed over, it is the replica, in the raw disk; failed over back, the VM runs from it again', async () => {
    await failOver('a', 'b');
    await assertByteEqual(hosts.b, hosts.a, hosts.scratch);
    await assert.rejects(hosts.a.client.call('vmUntrackDisk', VDA), Failure);
    await failOver('b', 'a');
    assert.match(await defined(), /vda\.raw\.understudy\.qcow2$/m);
    await assertByteEqual(hosts.a, hosts.b, hosts.scratch);
  });

  stage('what is written past the tracking image while the VM is off is found by a comparison', async () => {
    const { a, guest } = hosts;
    await guest.shutdown(PATIENCE_MS);
    await hurry(a);
    await protectedNow(a);
    // Beyond the guest's file system.
    await a.host.succeed(['qemu-io', '-f', 'raw', '-c', 'write -P 5 72M 64k', RAW]);
    const written = Date.now();
    utimesSync(a.host.path(RAW), new Date(), new Date(written + 5000)); // as if the last cycle had been a while ago
    await hurry(a);
    await protectedNow(a, PATIENCE_MS);
    assert.match((await eventsOf(a)).join('\n'), /disk vda was written beside its tracking image/);
    await assertRawReplicated(written);
  });

  stage('detached, it is the plain raw disk, and the VM boots from it', async () => {
    const { a, guest } = hosts;
    const { rawDisks } = await a.client.call('vmDetach', { vm: VM });
    assert.deepEqual(rawDisks, [{ target: 'vda', path: RAW, state: 'given-back' }]);
    assert.match(await defined(), /vda\.raw$/m);
    assert.ok(!existsSync(a.host.path(IMAGE)));
    await guest.start();
    await assertRecordsGood(guest);
    assert.match(await a.host.virsh('dumpxml', VM), /type='raw'/);
  });
}
