/** A replica that begins with disks which its host has already: a copy of the VM from some time ago. */
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Failure, type FailureCode } from '../../src/model/failure.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { VM, VM_NAME } from './vm-hosts.ts';

const SEED = '88888888-2222-4333-8444-555555555555';
const failing = (code: FailureCode) => (error: unknown) => error instanceof Failure && error.code === code;

interface Seeded {
  readonly vm: ReplicatedVm;
  readonly enable: () => Promise<void>;
  /** What the copy holds. */
  readonly copied: readonly Buffer[];
}

/** No relationship; on host b a VM of the same name, with disks as they were a while ago. */
async function begin(t: TestContext): Promise<Seeded> {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.hosts.a.ask('replicationRemove', { ref: vm.id, keepDisks: false });
  const { a, b } = vm.vms.hypervisors;
  await a.shutdown(VM, 1000);
  const copied = vm.vms.guest.snapshot();
  const disks = await Promise.all(
    (await a.getVm(VM)).disks.map(async ({ target, path }) => {
      const copy = join(vm.vms.directory, 'b', `${target}-restored.qcow2`);
      await copyFile(path, copy);
      return { target, path: copy, format: 'qcow2' as const };
    }),
  );
  const definition = JSON.stringify({ id: SEED, name: VM_NAME, disks, network: 'connected' });
  const settings = { otherDisks: 'keep', network: 'as-defined', disks: new Map() } as const;
  await b.define({ definition, id: SEED, name: VM_NAME, ...settings });
  await a.start(VM);
  await vm.vms.change('a', 4);
  const enable = async () => {
    const limits = {
      leaseSeconds: 0,
      readBytesPerSecond: 0,
      readIops: 0,
      replicaPlaintext: false,
      autoResync: 'never',
    };
    const request = { vm: VM_NAME, peer: 'b', intervalSeconds: 1, history: 24, thin: [], excludeDisks: [], ...limits };
    vm.id = (await vm.hosts.a.ask('replicationEnable', { ...request, useSeed: true })).id;
    vm.states.clear();
  };
  vm.hosts.b.services.store.putPeer({ name: 'a', address: 'a:1', caCertificate: 'pem', caFingerprint: '00' });
  return { vm, enable, copied };
}

void test('only what differs is sent, and what the disks held is a recovery point', async (t) => {
  const { vm, enable, copied } = await begin(t);
  await vm.hosts.b.ask('replicaSeed', { vm: VM_NAME, peer: 'a' });
  await enable();
  await vm.replicated('a');
  const points = vm.hosts.b.services.replicas.get(vm.id).points();
  const found = points.find(({ kind }) => kind === 'found');
  assert.ok(found !== undefined);
  await vm.checkPoint('b', found.sequence, copied);
  const { statistics } = vm.record('a');
  assert.ok(statistics.changedBytes < 2 * 2 ** 20, `${statistics.changedBytes} bytes were sent of 5 MiB`);
  assert.deepEqual(
    (await vm.vms.hypervisors.b.listVms()).map(({ id, name }) => [id, name]),
    [[VM, VM_NAME]],
  );
  await assert.rejects(vm.vms.hypervisors.b.start(VM), 'its definition is locked');
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  await vm.checkBitmaps('a');
});

void test('a VM that its host has not set aside for this peer is nobody’s to take', async (t) => {
  const { vm, enable } = await begin(t);
  const { b } = vm.vms.hypervisors;
  await assert.rejects(enable(), failing('already-exists'));
  await assert.rejects(vm.hosts.b.ask('replicaSeed', { vm: VM_NAME, peer: 'c' }), failing('not-found'));
  await vm.hosts.b.ask('replicaSeed', { vm: VM_NAME, peer: 'a' });
  await vm.hosts.b.ask('replicaSeed', { vm: VM_NAME });
  await assert.rejects(enable(), failing('already-exists'), 'the mark was withdrawn');
  assert.deepEqual(
    (await b.listVms()).map(({ id }) => id),
    [SEED],
    'it is as it was',
  );
  assert.deepEqual(vm.hosts.b.services.store.relationships(), []);
  assert.deepEqual(vm.hosts.a.services.store.relationships(), []);
  await vm.hosts.b.ask('replicaSeed', { vm: VM_NAME, peer: 'a' });
  await enable();
  await vm.replicated('a');
});
