/** A state database that is lost, damaged, or an old copy: the daemon starts, says so, and goes by what lies on the disks. */
import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { openStore } from '../../src/daemon/open-store.ts';
import { checkRuns, startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { other, TwoHosts, type HostName } from './two-hosts.ts';

const FILES = ['understudy.sqlite', 'understudy.sqlite-wal', 'understudy.sqlite-shm'];

/** Two points, between hosts that are paired. */
async function start(t: TestContext): Promise<ReplicatedVm> {
  const vm = await startReplication(t, { changes: 10, begin: false });
  for (const host of ['a', 'b'] as const) {
    const name = other(host);
    const paired = { name, address: `${name}.test:7443`, caCertificate: 'PEM', caFingerprint: 'ab'.repeat(32) };
    vm.hosts.host(host).services.store.putPeer(paired);
  }
  vm.hosts.a.link.chooser = () => undefined;
  vm.hosts.a.services.primaries.loop(vm.id).wake();
  await vm.replicated('a');
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  return vm;
}

/** Both daemons end; `meanwhile` happens to the files of one of them; both start again. */
async function restart(
  vm: ReplicatedVm,
  host: HostName,
  meanwhile: (directory: string) => Promise<void>,
): Promise<void> {
  await vm.hosts.close();
  await meanwhile(join(vm.vms.directory, host));
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
  await vm.hosts.begin();
}

async function lose(directory: string): Promise<void> {
  for (const name of FILES) await rm(join(directory, name), { force: true });
}

/** Keeps a copy of the state database, with the daemons closed meanwhile; gives what puts it back. */
async function backUp(t: TestContext, vm: ReplicatedVm, host: HostName): Promise<(directory: string) => Promise<void>> {
  const kept = await mkdtemp(join(tmpdir(), 'us-old-'));
  t.after(() => rm(kept, { recursive: true }));
  await restart(vm, host, (directory) => cp(join(directory, FILES[0]!), join(kept, FILES[0]!)));
  return async (directory) => {
    await lose(directory);
    await cp(join(kept, FILES[0]!), join(directory, FILES[0]!));
  };
}

void test('the primary with a state database that is gone, empty or no database finds out what it replicates, and compares', async (t) => {
  const vm = await start(t);
  const before = vm.record('a');
  const empty = (directory: string) => lose(directory).then(() => writeFile(join(directory, FILES[0]!), ''));
  const rubbish = (directory: string) =>
    lose(directory).then(() => writeFile(join(directory, FILES[0]!), 'x'.repeat(70_000)));
  for (const damage of [lose, empty, rubbish]) {
    const points = vm.hosts.b.services.replicas.get(vm.id).points().length;
    await restart(vm, 'a', damage);
    assert.equal(vm.count('a', 'primary-rebuilt'), 1);
    await vm.vms.change('a', 3);
    await vm.replicated('a');
    assert.equal(vm.count('a', 'comparing'), 1);
    const { id, vmName, peer, epoch, role, disks, intervalSeconds, history, created } = vm.record('a');
    const same = { id, vmName, peer, epoch, role, disks, intervalSeconds, history, created };
    assert.deepEqual({ ...before, ...same }, before);
    assert.equal(vm.hosts.a.services.store.peers().length, 1);
    assert.ok(vm.hosts.b.services.replicas.get(vm.id).points().length > points);
  }
  await vm.checkAllPoints('b');
  await vm.checkBitmaps('a');
});

for (const host of ['a', 'b'] as const) {
  void test(`what was paused on ${host} stays so without its state database, until it is resumed there`, async (t) => {
    const vm = await start(t);
    await vm.hosts.host(host).ask('replicationSuspend', { ref: vm.id });
    await restart(vm, host, lose);
    assert.equal(vm.count(host, host === 'a' ? 'primary-rebuilt' : 'replica-rebuilt'), 1);
    assert.equal(vm.record(host).suspended, true);
    await vm.vms.change('a', 3);
    if (host === 'a') assert.equal(vm.hosts.a.services.primaries.loop(vm.id).running, false);
    else await vm.wait('paused', () => vm.record('a').failure?.code === 'suspended');
    await vm.hosts.host(host).ask('replicationResume', { ref: vm.id });
    await vm.replicated('a');
    await restart(vm, host, lose);
    assert.equal(vm.record(host).suspended, false, 'and what was resumed goes on');
    await vm.replicated('a');
    await vm.checkAllPoints('b');
  });
}

void test('an old copy at the primary: its replica stands elsewhere, both sides are compared, no point is lost', async (t) => {
  const vm = await start(t);
  const restore = await backUp(t, vm, 'a');
  for (let i = 0; i < 2; i++) {
    await vm.vms.change('a', 3);
    await vm.replicated('a');
  }
  const points = vm.hosts.b.services.replicas.get(vm.id).points().length;
  await restart(vm, 'a', restore);
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 1);
  assert.ok(vm.hosts.b.services.replicas.get(vm.id).points().length > points);
  await vm.checkAllPoints('b');
});

void test('old copies from before a planned failover: either host knows what it is since, and no VM starts twice', async (t) => {
  const vm = await start(t);
  const restore = { a: await backUp(t, vm, 'a'), b: await backUp(t, vm, 'b') };
  await vm.hosts.a.ask('plannedFailover', { ref: vm.id, start: true, shutdownTimeoutSeconds: 60 });
  await vm.settled('a');
  await vm.settled('b');
  await checkRuns(vm, 'b');
  await vm.replicated('b');
  // It says that this host is the primary.
  await restart(vm, 'a', restore.a);
  assert.equal(vm.count('a', 'state-database-older'), 1);
  assert.equal(vm.record('a').role, 'replica');
  await vm.vms.change('b', 3);
  await vm.replicated('b');
  // And it says that this host is the Replica server.
  await restart(vm, 'b', restore.b);
  assert.equal(vm.count('b', 'primary-rebuilt'), 1);
  await vm.vms.change('b', 3);
  await vm.replicated('b');
  await checkRuns(vm, 'b');
  await vm.checkAllPoints('a');
});

void test('an old copy at the Replica server, from before a failover that was cancelled: the epoch of the replica counts', async (t) => {
  const vm = await start(t);
  const restore = await backUp(t, vm, 'b');
  await vm.hosts.b.services.replicas.get(vm.id).raiseEpoch(3);
  await restart(vm, 'b', restore);
  assert.equal(vm.count('b', 'state-database-older'), 1);
  assert.equal(vm.record('b').epoch, 3);
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  assert.equal(vm.record('a').epoch, 3);
});

void test('a state database of a later version is refused in words, and stays as it is', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'us-later-'));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, FILES[0]!);
  const { store } = await openStore(path, 1);
  store.close();
  const database = new DatabaseSync(path);
  database.exec('PRAGMA user_version = 99');
  database.close();
  const before = await readFile(path);
  await assert.rejects(openStore(path, 2), { code: 'format-unknown', message: /layout version 99/ });
  assert.ok(before.equals(await readFile(path)));
});
