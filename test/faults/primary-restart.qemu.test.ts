/** What a host does with its protected VM when it starts again: nothing before it is known who holds the role. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { checkRuns, startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut } from './two-hosts-process.ts';
import { TwoHosts } from './two-hosts.ts';
import { VM } from './vm-hosts.ts';

/** Replication of a VM that starts with its host. */
async function begin(t: TestContext): Promise<ReplicatedVm> {
  const vm = await startReplication(t, { autostart: true });
  await vm.replicated('a');
  assert.equal((await vm.vms.hypervisors.a.getVm(VM)).autostart, false, 'the daemon starts it, not the hypervisor');
  return vm;
}

/** Host a dies and boots again; host b's daemon is started again, too. */
async function reboot(vm: ReplicatedVm): Promise<void> {
  const { cut } = vm.hosts;
  await vm.vms.machines.a.crash(VM);
  await vm.hosts.close();
  await rm(join(vm.vms.directory, 'a', 'run'), { recursive: true });
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
  vm.hosts.cut = cut;
  await vm.hosts.begin();
}

void test('after a boot the VM starts as soon as the replica says that it has not taken over, and only then', async (t) => {
  const vm = await begin(t);
  vm.hosts.cut = true;
  await reboot(vm);
  await vm.wait('told', () => vm.count('a', 'start-held-back') === 1);
  assert.equal((await vm.vms.hypervisors.a.getVm(VM)).state, 'off');
  vm.hosts.cut = false;
  await vm.wait('started', () => vm.count('a', 'vm-started') === 1);
  await vm.replicated('a');
  await checkRuns(vm, 'a');
});

void test('after a boot the VM of a host whose replica has taken over does not start', async (t) => {
  const vm = await begin(t);
  vm.hosts.cut = true;
  await vm.vms.machines.a.crash(VM);
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  vm.hosts.cut = false;
  await reboot(vm);
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') === 1);
  await checkRuns(vm, 'b');
  await assert.rejects(vm.vms.hypervisors.a.start(VM), 'its definition is locked');
  // Cancelled: the guest starts here again, as it would have.
  await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
  await vm.wait('regained', () => vm.count('a', 'role-regained') === 1);
  await vm.replicated('a');
  await checkRuns(vm, 'a');
});

void test('a restart of the daemon alone starts no VM that somebody has shut down', async (t) => {
  const vm = await begin(t);
  await vm.vms.hypervisors.a.shutdown(VM, 1000);
  await vm.hosts.close();
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
  await vm.hosts.begin();
  await vm.replicated('a');
  assert.equal((await vm.vms.hypervisors.a.getVm(VM)).state, 'off');
  assert.equal(vm.count('a', 'vm-started'), 0);
});

void test('a replica that was restored from before a failover is told the epoch, and compared', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  const { store, primaries } = vm.hosts.a.services;
  await primaries.stop(vm.id);
  // As if there had been failovers since the replica's state was saved.
  store.putRelationship({ ...vm.record('a'), epoch: vm.record('a').epoch + 2 });
  await vm.vms.change('a', 5);
  primaries.start(vm.id);
  await vm.replicated('a');
  assert.equal(vm.count('a', 'replica-set-back'), 1);
  assert.equal(vm.hosts.b.services.replicas.get(vm.id).status().epoch, vm.record('a').epoch);
  await vm.checkAllPoints('b');
});

void test('a clock that is set forward by a year is no waiting for the other side', async (t) => {
  const vm = await begin(t);
  vm.hosts.cut = true;
  await reboot(vm);
  await vm.wait('told', () => vm.count('a', 'start-held-back') === 1);
  vm.hosts.a.clockSet = 365 * 86_400_000;
  let asked = 0;
  vm.hosts.a.link.chooser = (call) => {
    if (call !== 'status') return undefined;
    asked++;
    return { call, when: 'before', code: 'unreachable' };
  };
  vm.hosts.cut = false;
  await vm.wait('asked twice more', () => asked >= 2);
  assert.equal((await vm.vms.hypervisors.a.getVm(VM)).state, 'off');
  assert.equal(vm.count('a', 'vm-started'), 0);
  vm.hosts.a.link.chooser = () => undefined;
  await vm.wait('started', () => vm.count('a', 'vm-started') === 1);
});
