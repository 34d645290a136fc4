/** A protected VM is migrated live to another host of its site: said on the one that it has left, and protected again from the other, by what differs. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { LabGuest, installGuestFiles } from '../../lab/guest/guest.ts';
import { Lab } from '../../lab/hosts/lab.ts';
import { run } from '../../src/lib/process.ts';
import { insist, plugging } from '../system/administrator.ts';
import { assertByteEqual } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { VM, look, protectedNow } from '../system/two-hosts.ts';

const PATIENCE_MS = 120_000;
const RANDOM = 32 * 2 ** 20;
const SETTINGS = { vm: VM, peer: 'b', intervalSeconds: 5 };

const stage = stages();
const scratch = mkdtempSync(join(tmpdir(), 'us-migration-'));
let lab: Lab;
let a: HostDaemon;
let b: HostDaemon;
let c: HostDaemon;
let images: readonly { readonly target: string; readonly path: string; readonly size: number }[];

before(async () => {
  lab = await Lab.create({ name: 'guest-migration.test', hosts: ['a', 'b', 'c'] });
  [a, b, c] = ['a', 'b', 'c'].map((name) => new HostDaemon(lab.host(name))) as [HostDaemon, HostDaemon, HostDaemon];
  const size = { sizeMiB: 64 };
  const guest = await LabGuest.define(a.host, { name: VM, autostart: true, vda: size, vdb: size });
  for (const { host } of [b, c]) await installGuestFiles(host);
  await Promise.all([a.start(), b.start(), c.start(), guest.start()]);
  for (const primary of [a, c]) await primary.pairWith(b);
  // Much that doesn't change.
  const image = '/var/lib/libvirt/images/random.qcow2';
  await a.host.succeed(['sh', '-c', `head -c ${RANDOM} /dev/urandom > ${image}.raw`]);
  await a.host.succeed(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', `${image}.raw`, image]);
  await insist(() => a.host.virsh(...plugging(image, 'vdc')));
  await a.client.call('replicationEnable', SETTINGS);
  await a.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating', PATIENCE_MS);
  const { disks, statistics } = await protectedNow(a, PATIENCE_MS);
  images = disks;
  assert.ok(statistics.sentBytes > RANDOM);
});
after(async () => {
  await lab?.dispose();
  rmSync(scratch, { recursive: true, force: true });
});

async function migrate(): Promise<void> {
  const [from, to] = [a.host.libvirtUri, c.host.libvirtUri];
  const how = ['--live', '--persistent', '--undefinesource', '--copy-storage-all'];
  const way = ['--migrateuri', `tcp://${c.host.address}`, '--listen-address', '0.0.0.0'];
  const { code, stderr } = await run('virsh', ['-c', from, 'migrate', ...how, VM, to, ...way], { timeoutMs: 60_000 });
  if (code !== 0) throw new Error(stderr);
}

stage(
  'it may be migrated live with its storage: nothing of ours is in the way, and the host that it leaves says so',
  async () => {
    for (const { path, size } of images)
      await c.host.succeed(['qemu-img', 'create', '-q', '-f', 'qcow2', path, String(size)]);
    await insist(migrate);
    assert.equal(await c.host.virsh('domstate', VM), 'running');
    const { failure, health } = await a.waitFor(VM, 'told', (one) => one.failure?.code === 'not-found', PATIENCE_MS);
    assert.equal(health, 'critical');
    assert.match(
      failure!.message,
      /web is not on this host any more: it was migrated to another one.*nothing protects it/,
    );
    assert.match(failure!.hint!, /understudy replication remove web --keep-disks/);
    // Nobody on the other host takes it for protected, and it has nothing of ours that is known there.
    assert.deepEqual(await c.client.call('replicationList', {}), []);
    assert.equal(await c.host.virsh('checkpoint-list', VM, '--name'), '');
    for (const { path } of images)
      assert.doesNotMatch(await c.host.succeed(['qemu-img', 'info', '-U', path]), /understudy-/);
  },
);

stage(
  'it is protected from there with the disks that the Replica server keeps: only what differs is sent',
  async () => {
    const { disks } = await b.show(VM);
    await a.client.call('replicationRemove', { ref: VM, keepDisks: true });
    assert.deepEqual(await a.client.call('replicationList', {}), []);
    assert.deepEqual(await b.client.call('replicationList', {}), []);
    let xml = await c.host.virsh('dumpxml', '--inactive', VM);
    for (const { target, path } of images) xml = xml.replace(path, disks.find((disk) => disk.target === target)!.path);
    await b.host.define(xml);
    await b.client.call('replicaSeed', { vm: VM, peer: 'c' });
    await c.client.call('replicationEnable', { ...SETTINGS, useSeed: true });
    await c.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating', PATIENCE_MS);
    await protectedNow(c, PATIENCE_MS);
    const { sentBytes } = (await look(c)).statistics;
    assert.ok(sentBytes < RANDOM / 2, `${sentBytes} bytes sent`);
    await assertByteEqual(c, b, scratch);
  },
);
