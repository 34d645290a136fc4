/** Replication is paused by the administrator of one host or the other. */
import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ReplicaEndpoint } from '../../src/protocol/endpoint.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut } from './two-hosts-process.ts';
import { VM } from './vm-hosts.ts';

const show = (vm: ReplicatedVm, on: 'a' | 'b') => vm.host(on).ask('replicationShow', { ref: vm.id });
const isPaused = (vm: ReplicatedVm) => vm.record('a').failure?.code === 'suspended';

/** Bytes that the primary keeps of logs. */
async function outboxBytes(vm: ReplicatedVm): Promise<number> {
  const directory = join(vm.vms.directory, 'a', 'outbox', vm.id);
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []; // it is made for the next log
    throw error;
  });
  const sizes = names.map(async (name) => (await stat(join(directory, name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** Counts what the primary asks its replica from now on. */
function counting(vm: ReplicatedVm): Map<keyof ReplicaEndpoint, number> {
  const calls = new Map<keyof ReplicaEndpoint, number>();
  vm.hosts.a.link.chooser = (call) => void calls.set(call, (calls.get(call) ?? 0) + 1);
  return calls;
}

void test('paused on the Replica server: the primary says so, keeps nothing but bitmaps, and goes on when told', async (t) => {
  const vm = await startReplication(t);
  const point = await vm.replicated('a');
  const { received } = vm.hosts.b.services.replicas.get(vm.id).status();
  assert.equal((await vm.hosts.b.ask('replicationSuspend', { ref: vm.id })).state, 'Suspended');
  assert.equal((await show(vm, 'b')).health, 'critical');
  await vm.vms.change('a', 5);
  const { primaries } = vm.hosts.a.services;
  await vm.wait('paused', () => {
    primaries.loop(vm.id).wake();
    return isPaused(vm);
  });
  const shown = await show(vm, 'a');
  assert.deepEqual([shown.state, shown.suspended, shown.health], ['Suspended', false, 'critical']);
  assert.match(shown.failure!.message, /paused on b, by an administrator of that host/);
  assert.equal(shown.peerStatus?.suspended, true);
  await vm.wait('nothing under way', () => vm.record('a').inFlight === null || vm.record('a').inFlight!.makes !== null);

  const { failedCycles, missedCycles } = vm.record('a').statistics;
  const calls = counting(vm);
  const kept = await outboxBytes(vm);
  for (let i = 1; i <= 5; i++) {
    await vm.vms.change('a', 5);
    primaries.loop(vm.id).wake();
    await vm.wait('another look', () => (calls.get('status') ?? 0) >= i);
  }
  assert.equal(await outboxBytes(vm), kept);
  assert.deepEqual(
    [...calls.keys()].filter((call) => call !== 'status'),
    [],
    'it only looks',
  );
  assert.deepEqual(vm.hosts.b.services.replicas.get(vm.id).status().received, received);
  assert.equal(vm.count('a', 'trouble'), 1, 'said once');
  const { statistics } = vm.record('a');
  assert.deepEqual([statistics.failedCycles, statistics.missedCycles], [failedCycles, missedCycles]);
  await vm.checkPoint('b', point);

  await vm.hosts.b.ask('replicationResume', { ref: vm.id });
  await vm.wait('going on, told', () => vm.record('a').failure === null); // nobody wakes it here
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkBitmaps('a');
  await vm.checkAllPoints('b');
});

void test('paused in the middle of a log: it is refused, and sent when replication goes on', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.vms.change('a', 8);
  let refused = 0;
  vm.hosts.a.link.chooser = (call) => {
    if (call !== 'put' || refused++ > 0) return undefined;
    const { store } = vm.hosts.b.services;
    store.putRelationship({ ...vm.record('b'), suspended: true });
    return { call, when: 100, code: 'interrupted' };
  };
  vm.hosts.a.services.primaries.loop(vm.id).wake();
  await vm.wait('paused', () => isPaused(vm));
  await vm.hosts.b.ask('replicationResume', { ref: vm.id });
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('a paused replica can be failed over to, and is paused no more; both hosts can pause at once', async (t) => {
  const vm = await startReplication(t);
  const point = await vm.replicated('a');
  await vm.hosts.b.ask('replicationSuspend', { ref: vm.id });
  const own = await vm.hosts.a.ask('replicationSuspend', { ref: vm.id });
  assert.deepEqual([own.state, own.suspended, own.health], ['Suspended', true, 'warning']);
  await vm.hosts.a.ask('replicationResume', { ref: vm.id });
  await vm.wait('still paused by the other', () => isPaused(vm));
  await vm.vms.change('a', 3);
  vm.hosts.cut = true;
  await vm.vms.machines.a.crash(VM);
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  await vm.checkGuest('b', vm.states.get(point));
  vm.vms.guest.goOnFrom(vm.states.get(point)!);
  assert.equal(vm.record('b').suspended, false);
  vm.hosts.cut = false;
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  await vm.replicated('b');
});
