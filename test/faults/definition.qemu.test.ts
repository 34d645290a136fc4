/** A VM's definition that changes: what its Replica VM is defined by, durably, whether it follows, keeps its own or can't be defined. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { Definitions } from '../../src/daemon/definitions.ts';
import type { DaemonServices } from '../../src/daemon/services.ts';
import { Failure } from '../../src/model/failure.ts';
import { seeded } from './replica-primary.ts';
import { ReplicatedVm } from './replicated-vm.ts';
import { TwoHosts } from './two-hosts.ts';
import { VM, VM_NAME, VmHosts } from './vm-hosts.ts';

let vms: VmHosts | undefined;
let hosts: TwoHosts | undefined;

afterEach(async () => {
  await hosts?.close();
  await vms?.dispose();
  hosts = vms = undefined;
});

async function start(): Promise<ReplicatedVm> {
  vms = await VmHosts.make(seeded(1));
  hosts = await TwoHosts.open(vms.directory, vms.hypervisors);
  hosts.b.services.store.putPeer({ name: 'a', address: 'a:1', caCertificate: 'PEM', caFingerprint: 'ab'.repeat(32) });
  await vms.hypervisors.a.start(VM);
  const vm = await ReplicatedVm.enable(hosts, vms);
  await vm.replicated('a');
  return vm;
}

/** What a VM without a guest has besides its disks. */
const networkOf = (definition: string) => (JSON.parse(definition) as { network: string }).network;

/** The administrator of a host changes the VM; the Replica server is told. */
async function change(vm: ReplicatedVm, network: 'as-defined' | 'disconnected'): Promise<void> {
  const definition = (await vms!.hypervisors.a.exportDefinition(VM)).replace('disconnected', 'connected');
  const request = { definition, id: VM, name: VM_NAME, disks: new Map(), otherDisks: 'keep', network } as const;
  await vms!.hypervisors.a.define(request);
  const wanted = network === 'disconnected' ? network : 'connected';
  await vm.wait('told', () => {
    const loop = vm.hosts.a.services.primaries.loop(vm.id);
    loop.replication.definitionDue = 0;
    loop.wake();
    const { received } = vm.hosts.b.services.replicas.get(vm.id).record;
    return received !== null && networkOf(received.definition) === wanted;
  });
}

const look = (services: DaemonServices) => new Definitions(services).look();

async function isLocked(): Promise<void> {
  await assert.rejects(vms!.hypervisors.b.start(VM), 'its definition is locked');
}

void test('it follows, locked, and is there when the state database is lost', async () => {
  const vm = await start();
  await change(vm, 'disconnected');
  await look(vm.hosts.b.services);
  assert.equal(networkOf(vm.record('b').definition), 'disconnected');
  assert.equal(networkOf(await vms!.hypervisors.b.exportDefinition(VM)), 'disconnected');
  assert.deepEqual([vm.count('a', 'definition-changed'), vm.count('b', 'definition-followed')], [1, 1]);
  await isLocked();
  await hosts!.close();
  for (const end of ['', '-wal', '-shm'])
    await rm(join(vms!.directory, 'b', `understudy.sqlite${end}`), { force: true });
  hosts = vm.hosts = await TwoHosts.open(vms!.directory, vms!.hypervisors);
  await hosts.begin();
  assert.equal(networkOf(vm.record('b').definition), 'disconnected');
  await look(vm.hosts.b.services);
  assert.equal(vm.count('b', 'definition-followed'), 0, 'nothing is new');
  await isLocked();
});

void test('one that keeps its own is told what has changed, once, and follows when it is to again', async () => {
  const vm = await start();
  await vm.hosts.a.ask('replicationSet', { ref: vm.id, definitionPolicy: 'keep' });
  await change(vm, 'disconnected');
  const definitions = new Definitions(vm.hosts.b.services);
  await definitions.look();
  await definitions.look();
  assert.equal(vm.count('b', 'definition-kept'), 1);
  assert.equal(networkOf(vm.record('b').definition), 'connected');
  await vm.hosts.a.ask('replicationSet', { ref: vm.id, definitionPolicy: 'follow' });
  await definitions.look();
  assert.equal(networkOf(vm.record('b').definition), 'disconnected');
});

void test('one that its host can not define stays as it was, is said once, and the data goes on', async () => {
  const vm = await start();
  await change(vm, 'disconnected');
  const { services } = vm.hosts.b;
  const refusing = Object.create(services.hypervisor, {
    define: { value: () => Promise.reject(new Failure('libvirt', 'no such machine type')) },
    exportDefinition: { value: (id: string) => services.hypervisor.exportDefinition(id) },
    factsOf: { value: (definition: string) => services.hypervisor.factsOf(definition) },
    adaptDefinition: { value: (request: never) => services.hypervisor.adaptDefinition(request) },
    lackingFor: { value: () => Promise.resolve(['machine type new']) },
  }) as DaemonServices['hypervisor'];
  const definitions = new Definitions({ ...services, hypervisor: refusing });
  await definitions.look();
  await definitions.look();
  assert.deepEqual([vm.count('b', 'definition-refused'), vm.count('b', 'definition-lacking')], [1, 1]);
  assert.deepEqual((await vm.hosts.b.endpoint.status(vm.id)).lacking, ['machine type new']);
  assert.equal(networkOf(vm.record('b').definition), 'connected');
  await vms!.change('a', 4);
  await vm.replicated('a');
  await look(services);
  assert.equal(networkOf(vm.record('b').definition), 'disconnected');
  assert.equal(vm.count('b', 'definition-complete'), 1);
});

void test('what is changed where the VM runs after a planned failover comes home', async () => {
  const vm = await start();
  await vm.replicated('a');
  await vm.hosts.a.ask('plannedFailover', { ref: vm.id, start: true, shutdownTimeoutSeconds: 60 });
  await vm.wait('handed over', () => vm.record('a').role === 'replica' && vm.record('b').state === 'Replicating');
  const definition = await vms!.hypervisors.b.exportDefinition(VM);
  const settings = { disks: new Map(), otherDisks: 'keep', network: 'disconnected' } as const;
  await vms!.hypervisors.b.define({ definition, id: VM, name: VM_NAME, ...settings });
  const definitions = new Definitions(vm.hosts.a.services);
  await vm.wait('followed', async () => {
    vm.hosts.b.services.primaries.loop(vm.id).replication.definitionDue = 0;
    vm.hosts.b.services.primaries.loop(vm.id).wake();
    await definitions.look();
    return networkOf(vm.record('a').definition) === 'disconnected';
  });
  const images = vm.record('a').disks.map(({ path }) => path);
  assert.ok(
    images.every((path) => path.startsWith(join(vms!.directory, 'a'))),
    'its disks are where they were',
  );
  await assert.rejects(vms!.hypervisors.a.start(VM), 'its definition is locked');
});
