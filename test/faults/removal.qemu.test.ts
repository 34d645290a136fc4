/** Replication is removed where a VM used to run: the one that runs since a failover stays whole, and there is no second one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkRuns, failOverBesides, killA, reviveA, startReplication } from './primary-world.ts';
import { carryOut } from './two-hosts-process.ts';
import { VM } from './vm-hosts.ts';

for (const completed of [true, false]) {
  void test(`removed at the old primary, the failover ${completed ? 'completed' : 'to an older point, undecided'}`, async (t) => {
    const vm = await startReplication(t, { autostart: true });
    const older = await vm.replicated('a');
    const kept = vm.vms.guest.snapshot();
    await vm.vms.change('a', 6);
    await vm.replicated('a');
    await killA(vm);
    await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b', point: older });
    vm.vms.guest.goOnFrom(kept);
    if (completed) await carryOut(vm.hosts, vm.id, { kind: 'complete-failover', on: 'b' });
    await vm.vms.change('b', 3);
    await reviveA(vm);
    await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);

    const before = vm.record('b').state;
    await vm.hosts.a.ask('replicationRemove', { ref: vm.id, keepDisks: false });
    assert.deepEqual(vm.hosts.a.services.store.relationships(), []);
    const old = await vm.vms.hypervisors.a.getVm(VM);
    assert.deepEqual([old.state, old.autostart], ['off', false], 'it runs on the other host');
    assert.equal(vm.count('a', 'left-off'), 1);
    await vm.vms.change('b', 3);
    await vm.checkGuest('b');
    assert.equal(vm.record('b').state, before);
    assert.equal(vm.count('a', 'peer-not-told'), 1);
    if (completed) return;
    await carryOut(vm.hosts, vm.id, { kind: 'complete-failover', on: 'b' });
    await vm.vms.change('b', 3);
    await checkRuns(vm, 'b');
  });
}

void test('removed at an old primary that has not heard of the failover: its copy is stopped before nobody would tell it', async (t) => {
  const vm = await startReplication(t, { autostart: true });
  await vm.replicated('a');
  await vm.hosts.a.services.primaries.stop(vm.id);
  vm.hosts.cut = true;
  await failOverBesides(vm);
  vm.hosts.cut = false;
  assert.equal(vm.record('a').state, 'Replicating');
  await vm.hosts.a.ask('replicationRemove', { ref: vm.id, keepDisks: false });
  const old = await vm.vms.hypervisors.a.getVm(VM);
  assert.deepEqual([old.state, old.autostart], ['paused', false]);
  assert.equal(vm.count('a', 'stepped-down') + vm.count('a', 'left-off'), 2);
  await vm.checkGuest('b');
});
