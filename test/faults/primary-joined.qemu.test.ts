/** A disk that is added to a protected VM, and replicated from then on, too: older points stay without it, newer ones have it whole. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { ADDED, ALL_THREE, include, targets, withAdded } from './added-disk.ts';
import { startReplication } from './primary-world.ts';
import { carryOut } from './two-hosts-process.ts';
import { VM } from './vm-hosts.ts';

void test('a disk that was added is copied, it alone, and is in the points from then on', async (t) => {
  const vm = await startReplication(t, { changes: 30 });
  await withAdded(vm);
  const { a } = vm.hosts;
  await a.ask('replicationSet', { ref: vm.id, excludeDisks: [ADDED.target] });
  assert.deepEqual([vm.record('a').unprotected, vm.record('a').leftOut], [[], [ADDED.target]]);
  await assert.rejects(a.ask('replicationSet', { ref: vm.id, includeDisks: ['vdz'] }), { code: 'not-found' });
  const before = vm.record('a').statistics.changedBytes;
  const reachable = a.link.chooser;
  a.link.chooser = (call) => (call === 'prepare' ? { call, when: 'before', code: 'no-space' } : undefined);
  await assert.rejects(include(vm), { code: 'no-space' });
  assert.deepEqual(vm.record('a').wanted, [], 'where there is no room nothing is begun');
  a.link.chooser = reachable;
  await include(vm);
  await vm.vms.change('a', 5);
  await vm.wait('joined', () => vm.count('a', 'disk-joined') === 1);
  const last = await vm.replicated('a');
  assert.deepEqual([targets(vm, 'a'), targets(vm, 'b')], [ALL_THREE, ALL_THREE]);
  assert.ok((await vm.checkAllPoints('b')) >= 2);
  const replica = vm.hosts.b.services.replicas.get(vm.id);
  const shapes = replica.points().map(({ sequence }) => [sequence, replica.disksAt(sequence).length] as const);
  const joined = shapes.findLast(([, count]) => count === 3)![0];
  assert.ok(joined <= last);
  assert.ok(
    shapes.every(([sequence, count]) => count === (sequence >= joined ? 3 : 2)),
    JSON.stringify(shapes),
  );
  assert.ok(
    shapes.some(([, count]) => count === 2),
    'a point from before is there',
  );
  for (const kind of ['comparing', 'catching-up', 'disk-not-joined']) assert.equal(vm.count('a', kind), 0, kind);
  assert.ok(vm.record('a').statistics.changedBytes - before < 2 * ADDED.size, 'the others were not copied');
  assert.deepEqual([vm.record('a').unprotected, vm.record('a').leftOut], [[], []]);
  await vm.checkBitmaps('a');
});

void test('a failover to a point from before has the disks of then; reversed from there, the added one stays where it is', async (t) => {
  const vm = await startReplication(t, { changes: 20 });
  const early = await vm.replicated('a');
  await withAdded(vm);
  await include(vm);
  await vm.wait('joined', () => vm.count('a', 'disk-joined') === 1);
  const late = await vm.replicated('a');
  for (const [point, count] of [
    [early, 2],
    [late, 3],
  ] as const) {
    await carryOut(vm.hosts, vm.id, { kind: 'test-failover-start', on: 'b', point });
    const copy = await vm.vms.hypervisors.b.getVm(vm.record('b').test!.vmId);
    assert.equal(copy.disks.length, count);
    await carryOut(vm.hosts, vm.id, { kind: 'test-failover-stop', on: 'b' });
  }
  vm.hosts.cut = true;
  await vm.vms.hypervisors.a.destroy(VM);
  for (const [point, count] of [
    [late, 3],
    [early, 2],
  ] as const) {
    await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b', point });
    assert.equal((await vm.vms.hypervisors.b.getVm(VM)).disks.length, count);
    await vm.checkGuest('b', vm.states.get(point)!);
    if (point === late) await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
  }
  vm.hosts.cut = false;
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  const images = await readdir(dirname(vm.record('b').disks[0]!.path));
  assert.deepEqual(images.toSorted(), ['vda.qcow2', 'vdb.qcow2'], 'nobody has the third any more');
  vm.vms.guest.unplug();
  vm.vms.guest.goOnFrom(vm.states.get(early)!);
  await vm.vms.change('b', 5);
  await vm.replicated('b');
  assert.deepEqual(targets(vm, 'a'), ['vda', 'vdb']);
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'b' });
  await vm.checkGuest('a');
});
