/** A disk that is gone for good, by a person's word: older points have it, newer ones don't, and replication goes on with the others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ADDED, include, targets, withAdded } from './added-disk.ts';
import { IN_LEAVING } from './crash-points.ts';
import { startAgain, startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut } from './two-hosts-process.ts';
import { VM } from './vm-hosts.ts';

/** A run takes some of them; `CRASHES=all` takes all. */
const CRASHES = [...IN_LEAVING, 'cycle:closed', 'acknowledged:stored'];

const exclude = (vm: ReplicatedVm, target = 'vdb') =>
  vm.hosts.a.ask('replicationSet', { ref: vm.id, excludeDisks: [target] });
const left = (vm: ReplicatedVm) => () => vm.count('a', 'disk-left') === 1 && vm.record('a').reshaped === false;
const at = (vm: ReplicatedVm, sequence: number) =>
  vm.hosts.b.services.replicas
    .get(vm.id)
    .disksAt(sequence)
    .map(({ target }) => target);

/** Nothing was compared, or copied, because of it. */
async function wentOn(vm: ReplicatedVm): Promise<void> {
  for (const kind of ['comparing', 'catching-up', 'disk-not-joined']) assert.equal(vm.count('a', kind), 0, kind);
  await vm.checkBitmaps('a');
}

void test('a disk that is left out while it is there goes with the next point; it may come back, and is compared then', async (t) => {
  const vm = await startReplication(t, { changes: 30 });
  const early = await vm.replicated('a');
  await assert.rejects(vm.hosts.a.ask('replicationSet', { ref: vm.id, excludeDisks: ['vda', 'vdb'] }), {
    code: 'bad-request',
  });
  const bytes = vm.vms.guest.bytes[1]!;
  const disk = vm.vms.guest.disks[1]!;
  vm.vms.guest.unplug();
  await exclude(vm);
  await vm.wait('left', left(vm));
  await vm.vms.change('a', 10);
  const late = await vm.replicated('a');
  assert.deepEqual([at(vm, early), at(vm, late)], [['vda', 'vdb'], ['vda']]);
  assert.deepEqual(targets(vm, 'b'), ['vda']);
  assert.deepEqual(vm.record('a').leftOut, ['vdb']);
  const shown = await vm.hosts.a.ask('replicationShow', { ref: vm.id });
  assert.deepEqual(
    shown.disks.map(({ target }) => target),
    ['vda'],
  );
  await vm.checkAllPoints('b');
  await wentOn(vm);
  for (const [point, count] of [
    [early, 2],
    [late, 1],
  ] as const) {
    await carryOut(vm.hosts, vm.id, { kind: 'test-failover-start', on: 'b', point });
    const copy = await vm.vms.hypervisors.b.getVm(vm.record('b').test!.vmId);
    assert.equal(copy.disks.length, count);
    await carryOut(vm.hosts, vm.id, { kind: 'test-failover-stop', on: 'b' });
  }
  vm.vms.guest.plug(disk);
  bytes.copy(vm.vms.guest.bytes[1]!);
  await vm.vms.change('a', 10); // of which no bitmap knows
  await vm.hosts.a.ask('replicationSet', { ref: vm.id, includeDisks: ['vdb'] });
  await vm.wait('joined', () => vm.count('a', 'disk-joined') === 1);
  await vm.vms.change('a', 5);
  const back = await vm.replicated('a');
  assert.deepEqual([at(vm, early), at(vm, late), at(vm, back)], [['vda', 'vdb'], ['vda'], ['vda', 'vdb']]);
  assert.ok((await vm.checkAllPoints('b')) >= 3);
  await wentOn(vm);
});

void test('a disk that was taken out stops replication, until somebody says that it is gone; failovers go on without it', async (t) => {
  const vm = await startReplication(t, { changes: 20 });
  const early = await vm.replicated('a');
  await vm.vms.hypervisors.a.shutdown(VM, 0);
  await vm.hosts.a.services.primaries.stop(vm.id);
  await vm.vms.unplug();
  await startAgain(vm.vms);
  vm.hosts.a.services.primaries.start(vm.id);
  await vm.wait('stopped', () => vm.record('a').failure?.code === 'disk-removed');
  await exclude(vm);
  await vm.wait('left', left(vm));
  await vm.vms.change('a', 5);
  const late = await vm.replicated('a');
  assert.deepEqual([at(vm, early), at(vm, late)], [['vda', 'vdb'], ['vda']]);
  await vm.checkAllPoints('b');
  await wentOn(vm);

  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'a' });
  await vm.checkGuest('b');
  await vm.vms.change('b', 5);
  await vm.replicated('b');
  assert.deepEqual([targets(vm, 'a'), targets(vm, 'b')], [['vda'], ['vda']]);
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'b' });
  await vm.checkGuest('a');
  await vm.vms.change('a', 5);
  await vm.replicated('a');
});

void test('an unplanned failover to a point from before has it; cancelled, replication goes on without it', async (t) => {
  const vm = await startReplication(t, { changes: 20 });
  const early = await vm.replicated('a');
  vm.vms.guest.unplug();
  await exclude(vm);
  await vm.wait('left', left(vm));
  const late = await vm.replicated('a');
  vm.hosts.cut = true;
  await vm.vms.hypervisors.a.destroy(VM);
  for (const [point, count] of [
    [early, 2],
    [late, 1],
  ] as const) {
    await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b', point });
    assert.equal((await vm.vms.hypervisors.b.getVm(VM)).disks.length, count);
    if (point === early) await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
  }
  await vm.checkGuest('b');
  vm.hosts.cut = false;
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  await vm.vms.change('b', 5);
  await vm.replicated('b');
  assert.deepEqual(targets(vm, 'a'), ['vda']);
});

void test('a disk that is only being copied can be given up: points go on without it', async (t) => {
  const vm = await startReplication(t, { changes: 20 });
  await withAdded(vm);
  const { a } = vm.hosts;
  let logs = 0;
  const joins = () => (vm.record('a').joining ?? []).length > 0;
  // The replica has a part of it, and no more comes.
  a.link.chooser = (call) =>
    call === 'put' && joins() && logs++ > 0 ? { call, when: 'before', code: 'unreachable' } : undefined;
  await include(vm);
  await vm.wait('begun', () => logs > 1);
  vm.vms.guest.unplug();
  await exclude(vm, ADDED.target);
  a.link.chooser = () => undefined;
  await vm.wait('given up', () => vm.count('a', 'disk-join-given-up') + vm.count('a', 'disk-left') === 1);
  await vm.vms.change('a', 5);
  await vm.replicated('a');
  assert.deepEqual(targets(vm, 'b'), ['vda', 'vdb']);
  await vm.checkAllPoints('b');
  await wentOn(vm);
});

void test('a daemon that is killed while a disk is let go of goes on without it', async (t) => {
  for (const crash of process.env['CRASHES'] === 'all' ? CRASHES : IN_LEAVING) {
    await t.test(crash, async (inner) => {
      const vm = await startReplication(inner, { changes: 10 });
      await vm.replicated('a');
      await vm.hosts.a.services.primaries.stop(vm.id);
      vm.vms.guest.unplug();
      await exclude(vm);
      await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
      await vm.vms.change('a', 5);
      await vm.replicated('a');
      await vm.checkAllPoints('b');
      assert.deepEqual(targets(vm, 'b'), ['vda']);
      await wentOn(vm);
    });
  }
});
