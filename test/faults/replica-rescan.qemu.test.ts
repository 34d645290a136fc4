import assert from 'node:assert/strict';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { newSeed, seeded } from './replica-primary.ts';
import { ReplicatedVm } from './replicated-vm.ts';
import { TwoHosts } from './two-hosts.ts';
import { VM, VmHosts } from './vm-hosts.ts';

let vms: VmHosts | undefined;
let hosts: TwoHosts | undefined;

afterEach(async () => {
  await hosts?.close();
  await vms?.dispose();
  hosts = vms = undefined;
});

const PAIRED = { name: 'a', address: 'a.test:7443', caCertificate: 'PEM', caFingerprint: 'ab'.repeat(32) };

/** A replica with three points on host b, which is paired with a. */
async function start(seed: number): Promise<ReplicatedVm> {
  vms = await VmHosts.make(seeded(seed));
  hosts = await TwoHosts.open(vms.directory, vms.hypervisors);
  hosts.b.services.store.putPeer(PAIRED);
  await vms.hypervisors.a.start(VM);
  await vms.change('a', 20);
  const vm = await ReplicatedVm.enable(hosts, vms);
  for (let i = 0; i < 3; i++) {
    await vms.change('a', 4);
    await vm.replicated('a');
  }
  return vm;
}

/** Both daemons end and start again; meanwhile `lose` happens. */
async function restart(vm: ReplicatedVm, lose: () => Promise<void>): Promise<void> {
  await hosts!.close();
  await lose();
  hosts = await TwoHosts.open(vms!.directory, vms!.hypervisors);
  vm.hosts = hosts;
  await hosts.begin();
}

async function loseDatabase(): Promise<void> {
  for (const end of ['', '-wal', '-shm']) {
    await rm(join(vms!.directory, 'b', `understudy.sqlite${end}`), { force: true });
  }
}

void test('a lost state database is rebuilt from the replica directories, and cycles go on', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const vm = await start(seed);
  const { store, replicas } = hosts!.b.services;
  await replicas.get(vm.id).setSettings({ leaseSeconds: 60 });
  store.putRelationship({ ...vm.record('b'), leaseSeconds: 60 });
  const before = vm.record('b');
  const points = hosts!.b.services.replicas.get(vm.id).points().length;
  await restart(vm, async () => {
    await loseDatabase();
    await vms!.hypervisors.b.undefine(before.vmId);
  });
  assert.equal(vm.count('b', 'replica-rebuilt'), 1, 'without being asked for');
  assert.deepEqual(hosts!.b.services.store.peers(), [PAIRED]);
  const after = vm.record('b');
  // What the primary said of the definition is in the directory: it is taken once more.
  const forgotten = { created: 0, position: null, definitionTaken: null };
  assert.deepEqual({ ...after, ...forgotten }, { ...before, ...forgotten });
  assert.equal((await hosts!.b.ask('replicaRescan', {}))[0]!.outcome, 'unchanged');
  await vms!.change('a', 4);
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 0, 'nothing has to be compared');
  assert.equal(hosts!.b.services.replicas.get(vm.id).points().length, points + 1);
  assert.equal(await vm.checkAllPoints('b'), points + 1);
});

void test('a Replica VM whose definition is gone is defined again, and is locked', async () => {
  const vm = await start(1);
  const { vmId, disks } = vm.record('b');
  await vms!.hypervisors.b.undefine(vmId);
  assert.equal((await hosts!.b.ask('replicaRescan', {}))[0]!.outcome, 'vm-defined');
  const defined = await vms!.hypervisors.b.getVm(vmId);
  for (const { path } of defined.disks) assert.ok(!disks.some((disk) => disk.path === path), path);
  await assert.rejects(vms!.hypervisors.b.start(vmId));
  assert.equal(vm.count('b', 'vm-defined'), 1);
});

void test('what cannot be rebuilt is said: a failover, a directory that names no host, a damaged record', async () => {
  const vm = await start(2);
  const record = join(vms!.directory, 'b', 'replicas', vm.id, 'replica.json');
  const text = await readFile(record, 'utf8');
  const outcomes = async (change: object) => {
    await restart(vm, async () => {
      await loseDatabase();
      await writeFile(record, JSON.stringify({ ...(JSON.parse(text) as object), ...change }));
    });
    assert.equal(vm.count('b', 'replica-forgotten'), 1, 'without being asked for');
    const [found] = await hosts!.b.ask('replicaRescan', {});
    assert.equal(found!.outcome, 'failed');
    assert.deepEqual(hosts!.b.services.store.relationships(), []);
    return found!.failure!.code;
  };
  assert.equal(await outcomes({ frozen: true }), 'wrong-state');
  assert.equal(await outcomes({ peer: null }), 'not-found');
  assert.equal(await outcomes({ applied: 'nonsense' }), 'io');
  // Mended while the daemon runs, it is opened.
  await writeFile(record, text);
  assert.equal((await hosts!.b.ask('replicaRescan', {}))[0]!.outcome, 'rebuilt');
  await vms!.change('a', 4);
  await vm.replicated('a');
});

void test('a damaged state database is put aside, and what the replica directories say is found again', async () => {
  const vm = await start(3);
  const path = join(vms!.directory, 'b', 'understudy.sqlite');
  const damage = Buffer.alloc(64 * 1024, 'not a page of a database');
  await restart(vm, async () => {
    await loseDatabase();
    await writeFile(path, damage);
  });
  assert.equal(vm.count('b', 'replica-rebuilt'), 1);
  const aside = (await readdir(join(path, '..'))).find((name) => name.startsWith('understudy.sqlite.damaged-'));
  assert.deepEqual(await readFile(join(path, '..', aside!)), damage);
  await vms!.change('a', 4);
  await vm.replicated('a');
});

void test('a replica that does not follow any more says so wherever it is shown', async () => {
  const vm = await start(4);
  const shown = async () => (await hosts!.b.ask('replicationList', {}))[0]!;
  assert.equal((await shown()).failure, null);
  // As if an older state database had been restored after a failover.
  await hosts!.b.services.replicas.get(vm.id).freeze();
  const { health, failure } = await shown();
  assert.equal(health, 'critical');
  assert.match(failure!.message, /released for a failover/);
  await hosts!.b.services.replicas.get(vm.id).thaw();
  assert.equal((await shown()).failure, null);
  const record = join(vms!.directory, 'b', 'replicas', vm.id, 'replica.json');
  const text = await readFile(record, 'utf8');
  await restart(vm, () => writeFile(record, '{'));
  assert.match((await shown()).failure!.message, /is not JSON/);
  await writeFile(record, text);
  await hosts!.b.ask('replicaRescan', {});
  assert.equal((await shown()).failure, null);
});
