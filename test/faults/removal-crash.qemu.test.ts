/** Daemons killed while a relationship is removed. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { begin, checkImages, die, forward, places, sample, told } from './crash-places.ts';
import { checkRuns } from './primary-world.ts';
import { ReplicatedVm } from './replicated-vm.ts';
import { ended } from './two-hosts-process.ts';
import { VM } from './vm-hosts.ts';

void test('killed at any step of removing a relationship: it is gone on both sides, the guest runs on, and can be protected anew', async (t) => {
  let vm = await begin(t);
  for (const place of sample(vm, places(forward('remove-replication')), 2)) {
    t.diagnostic(told(place));
    const { id } = vm;
    await vm.vms.change('a', 4);
    await die(vm, place, 'a', { kind: 'remove-replication', on: 'a' });
    await ended(vm.hosts, id);
    for (const name of ['a', 'b'] as const) {
      const { store, replicas } = vm.host(name).services;
      assert.deepEqual([store.relationships(), replicas.all()], [[], []], name);
      assert.deepEqual(await readdir(join(vm.vms.directory, name, 'replicas')), [], name);
    }
    await assert.rejects(vm.vms.hypervisors.b.getVm(VM), { code: 'not-found' });
    assert.equal((await vm.vms.hypervisors.a.getVm(VM)).state, 'running');
    assert.deepEqual(await vm.vms.hypervisors.a.listBitmaps(VM), []);
    vm = await ReplicatedVm.enable(vm.hosts, vm.vms);
    await vm.replicated('a');
    await checkRuns(vm, 'a');
  }
  await checkImages(vm);
});
