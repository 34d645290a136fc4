/** A daemon that dies, and tracking that is lost, while a disk that was added is taken along. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALL_THREE, include, targets, withAdded } from './added-disk.ts';
import { IN_JOINING } from './crash-points.ts';
import { startReplication } from './primary-world.ts';

/** A run takes some of them; `CRASHES=all` takes all. */
const CRASHES = [...IN_JOINING, 'slice:opened', 'slice:acknowledged', 'cycle:acknowledged', 'acknowledged:stored'];

void test('a daemon that is killed while a disk joins goes on with it, without a comparison', async (t) => {
  for (const crash of process.env['CRASHES'] === 'all' ? CRASHES : IN_JOINING) {
    await t.test(crash, async (inner) => {
      const vm = await startReplication(inner, { changes: 10 });
      await withAdded(vm);
      await vm.hosts.a.services.primaries.stop(vm.id);
      await include(vm);
      await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
      await vm.vms.change('a', 5);
      await vm.replicated('a');
      await vm.checkAllPoints('b');
      await vm.checkBitmaps('a');
      assert.deepEqual(targets(vm, 'b'), ALL_THREE);
      assert.equal(vm.count('a', 'comparing'), 0);
    });
  }
});

void test('a comparison that becomes necessary before the replica knows of the disk takes it along', async (t) => {
  const vm = await startReplication(t, { changes: 20 });
  await withAdded(vm);
  const { a } = vm.hosts;
  const reachable = a.link.chooser;
  const joins = () => (vm.record('a').joining ?? []).length > 0;
  // From then on no log gets to the replica.
  a.link.chooser = (call) => (call === 'put' && joins() ? { call, when: 'before', code: 'unreachable' } : undefined);
  await include(vm);
  await vm.wait('begun', () => vm.count('a', 'disk-joins') === 1);
  await a.services.primaries.stop(vm.id);
  const { vmId, bitmap } = vm.record('a');
  await vm.vms.hypervisors.a.dropBitmap(vmId, bitmap!);
  a.link.chooser = reachable;
  assert.deepEqual(targets(vm, 'b'), ['vda', 'vdb']);
  a.services.primaries.start(vm.id);
  await vm.replicated('a');
  await vm.checkAllPoints('b');
  assert.deepEqual(targets(vm, 'b'), ALL_THREE);
  assert.equal(vm.count('a', 'comparing'), 1);
});
