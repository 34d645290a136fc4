/** Daemons killed while a relationship is removed. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { begin, checkImages, die, forward, places, sample, told } from './crash-places.ts';
import { IN_REMOVING } from './crash-points.ts';
import { checkRuns } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut, ended } from './two-hosts-process.ts';
import type { HostName } from './two-hosts.ts';
import { VM } from './vm-hosts.ts';

/** Nothing of any relationship is left on a host. */
async function checkGone(vm: ReplicatedVm, name: HostName): Promise<void> {
  const { store, replicas } = vm.host(name).services;
  const replicaFiles = await readdir(join(vm.vms.directory, name, 'replicas'));
  const relays = await readdir(join(vm.vms.directory, name, 'run', 'tests'));
  assert.deepEqual([store.relationships(), replicas.all(), replicaFiles, relays], [[], [], [], []], name);
}

/** The guest runs on where it was, without anything of ours, and can be protected anew. */
async function protectAnew(vm: ReplicatedVm): Promise<void> {
  for (const name of ['a', 'b'] as const) await checkGone(vm, name);
  assert.deepEqual(await vm.vms.hypervisors.b.listVms(), []);
  assert.equal((await vm.vms.hypervisors.a.getVm(VM)).state, 'running');
  assert.deepEqual(await vm.vms.hypervisors.a.listBitmaps(VM), []);
  await vm.enableAnew();
  await vm.replicated('a');
  await checkRuns(vm, 'a');
}

void test('killed at any step of removing a relationship: it is gone on both sides, the guest runs on', async (t) => {
  const vm = await begin(t);
  const here = places(forward('remove-replication'));
  const there = places([...forward('remove-replication'), ...IN_REMOVING], 'other');
  for (const place of sample(vm, [...here, ...there], 2)) {
    t.diagnostic(told(place));
    await vm.vms.change('a', 4);
    await die(vm, place, 'a', { kind: 'remove-replication', on: 'a' });
    await ended(vm.hosts, vm.id);
    await protectAnew(vm);
  }
  await checkImages(vm);
});

void test('a relationship is removed although the VM is not there any more, on either side', async (t) => {
  const vm = await begin(t);
  const { a, b } = vm.vms.hypervisors;
  await a.destroy(VM);
  for (const hypervisor of [a, b]) await hypervisor.undefine(VM);
  await carryOut(vm.hosts, vm.id, { kind: 'remove-replication', on: 'a' });
  for (const name of ['a', 'b'] as const) await checkGone(vm, name);
});

void test('killed at any step of removing a replica that is being tested: it is gone with its test VM, the primary stays whole', async (t) => {
  const vm = await begin(t);
  for (const place of sample(vm, places([...forward('remove-replication'), ...IN_REMOVING]), 1)) {
    t.diagnostic(told(place));
    await carryOut(vm.hosts, vm.id, { kind: 'test-failover-start', on: 'b' });
    await die(vm, place, 'b', { kind: 'remove-replication', on: 'b' });
    await ended(vm.hosts, vm.id);
    await checkGone(vm, 'b');
    await vm.checkGuest('a');
    await carryOut(vm.hosts, vm.id, { kind: 'remove-replication', on: 'a' });
    await protectAnew(vm);
  }
  await checkImages(vm);
});
