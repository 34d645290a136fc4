/** The Replica server's daemon killed at the crash points of a test failover, alone or with the primary's. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { backward, begin, checkEnd, checkImages, die, forward, places, sample, told } from './crash-places.ts';
import { difference, readDisks } from './replica-primary.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut, ended } from './two-hosts-process.ts';
import { DISKS } from './vm-hosts.ts';

void test('killed at any step of a test failover, of its undoing and of its end: it is as if nobody had died', async (t) => {
  const vm = await begin(t);
  const { b } = vm.vms.hypervisors;
  const stops = sample(vm, places(forward('test-failover-stop')), 1);
  for (const start of sample(vm, places(forward('test-failover-start')), 1)) {
    const stop = stops.pop();
    t.diagnostic(`${told(start)}; ${told(stop)}`);
    const point = await vm.replicated('a');
    await vm.vms.change('a', 4);
    await vm.replicated('a');
    await die(vm, start, 'b', { kind: 'test-failover-start', on: 'b', point });
    await ended(vm.hosts, vm.id);
    checkEnd(vm, 'b', 'test-failover-start', 'done');
    const { test: running } = vm.record('b');
    assert.equal((await b.getVm(running!.vmId)).state, 'running');
    const socket = vm.vms.machines.b.writableSocket(running!.vmId);
    assert.equal(difference(await readDisks(socket, DISKS), vm.states.get(point)!), undefined);
    await vm.vms.change('a', 4);
    await vm.replicated('a');
    if (stop === undefined) await carryOut(vm.hosts, vm.id, { kind: 'test-failover-stop', on: 'b' });
    else await die(vm, stop, 'b', { kind: 'test-failover-stop', on: 'b' });
    await ended(vm.hosts, vm.id);
    await checkNoTest(vm, running!.vmId);
  }
  for (const place of sample(vm, places(backward('test-failover-start', 'start the test VM')), 1)) {
    t.diagnostic(told(place));
    b.refuses = true;
    await die(vm, place, 'b', { kind: 'test-failover-start', on: 'b' });
    await ended(vm.hosts, vm.id);
    b.refuses = false;
    checkEnd(vm, 'b', 'test-failover-start', 'undone');
    const { args } = vm.host('b').services.actions.journal.plans().at(-1)!;
    await checkNoTest(vm, args['testVmId'] as string);
    await vm.vms.change('a', 4);
    await vm.replicated('a');
  }
  await vm.checkAllPoints('b');
  assert.equal(vm.count('a', 'comparing'), 0);
  await checkImages(vm);
});

/** Nothing of a test failover is left, and all points are what they were. */
async function checkNoTest(vm: ReplicatedVm, testVmId: string): Promise<void> {
  const replica = vm.host('b').services.replicas.get(vm.id);
  assert.equal(vm.record('b').test, null);
  await assert.rejects(vm.vms.hypervisors.b.getVm(testVmId), { code: 'not-found' });
  assert.equal(replica.openViews, 0);
  assert.deepEqual(replica.record.held, []);
  assert.ok(!(await readdir(replica.directory)).includes('test'));
  assert.deepEqual(await readdir(join(vm.vms.directory, 'b', 'run', 'tests')), []);
  await vm.checkAllPoints('b');
}
