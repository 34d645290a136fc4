import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { startAgain, startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { VM } from './vm-hosts.ts';

void test('each recovery point holds what the disks held at its instant, however the guest writes', async (t) => {
  const vm = await startReplication(t);
  // The initial copy is fuzzy: the guest writes while it runs.
  for (let i = 0; i < 10; i++) await vm.vms.change('a', 3);
  await vm.replicated('a');
  for (let i = 0; i < 12; i++) {
    for (let burst = vm.vms.guest.below(3); burst >= 0; burst--) await vm.vms.change('a', 1 + vm.vms.guest.below(12));
    await vm.replicated('a');
  }
  assert.ok((await vm.checkAllPoints('b')) >= 12);
  assert.equal(vm.count('a', 'comparing'), 0);
  assert.equal(vm.count('a', 'trouble'), 0);
});

void test('a cycle in which nothing changed sends nothing and leaves nothing', async (t) => {
  const vm = await startReplication(t);
  const sequence = await vm.replicated('a');
  await vm.replicated('a'); // what that cycle did is counted by now
  const { statistics } = vm.record('a');
  let puts = 0;
  vm.hosts.a.link.chooser = (call) => void (puts += call === 'put' ? 1 : 0);
  const inbox = join(vm.vms.directory, 'b', 'replicas', vm.id, 'inbox');
  const undo = join(vm.vms.directory, 'b', 'replicas', vm.id, 'undo');
  const before = (await readdir(undo)).length;
  for (let i = 0; i < 4; i++) assert.equal(await vm.replicated('a'), sequence);
  await vm.hosts.a.services.primaries.stop(vm.id);
  const after = vm.record('a').statistics;
  assert.equal(puts, 0);
  assert.equal(after.cycles, statistics.cycles);
  assert.ok(after.idleCycles >= statistics.idleCycles + 4);
  assert.equal(after.sentBytes, statistics.sentBytes);
  assert.deepEqual(await readdir(inbox), []);
  assert.equal((await readdir(undo)).length, before);
  const point = vm.hosts.b.services.replicas.get(vm.id).points()[0]!;
  assert.equal(point.sequence, sequence);
  assert.equal(point.confirmed, vm.record('a').protectedUntil, 'the point is known to be as new as the last cycle');
  await vm.checkBitmaps('a');
});

void test('a copy of a VM that does not change makes its point, on and off', async (t) => {
  const vm = await startReplication(t, { changes: 1 });
  await vm.replicated('a');
  assert.equal(vm.hosts.b.services.replicas.get(vm.id).points().length, 1);
  await vm.vms.hypervisors.a.shutdown(VM, 1000);
  await vm.hosts.a.ask('replicationResync', { ref: vm.id });
  await vm.replicated('a');
  assert.equal(vm.hosts.b.services.replicas.get(vm.id).points().length, 2);
});

void test('a VM that is off is replicated, costs no job while it stays off, and is never mistaken for it', async (t) => {
  const vm = await startReplication(t);
  const { a } = vm.vms.hypervisors;
  await vm.replicated('a');
  await vm.vms.change('a', 5);
  await a.shutdown(VM, 1000);
  await vm.replicated('a');
  await vm.replicated('a');
  let points = 0;
  const openPoint = a.openPoint.bind(a);
  a.openPoint = async (request) => {
    points++;
    return await openPoint(request);
  };
  for (let i = 0; i < 3; i++) await vm.replicated('a');
  assert.equal(points, 0, 'a VM that stays off costs no job');
  // Between two looks it ran and was shut down again.
  await startAgain(vm.vms);
  await vm.vms.change('a', 5);
  await a.shutdown(VM, 1000);
  await vm.replicated('a');
  await startAgain(vm.vms);
  await vm.vms.change('a', 5);
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('tracking is lost with its host: both sides are compared, and only what differs is sent', async (t) => {
  const vm = await startReplication(t, { changes: 40 });
  await vm.replicated('a');
  await vm.vms.change('a', 4);
  await vm.vms.machines.a.crash(VM);
  await startAgain(vm.vms);
  const before = vm.record('a').statistics.changedBytes;
  const compared: { blocks: number; different: number }[] = [];
  const stop = watchCopy(vm, compared);
  await vm.replicated('a');
  stop();
  assert.equal(vm.count('a', 'comparing'), 1);
  const { blocks, different } = compared.at(-1)!;
  assert.ok(blocks > 0 && different <= 4 * 6, `${different} of ${blocks} blocks differ`);
  const sent = vm.record('a').statistics.changedBytes - before;
  assert.ok(sent <= 4 * 6 * 65_536, `${sent} bytes`);
  await vm.vms.change('a', 4);
  await vm.replicated('a');
  await vm.checkAllPoints('b');
});

void test('a host that dies in the middle of the initial copy compares, and loses no zero', async (t) => {
  const vm = await startReplication(t, { changes: 60 });
  await vm.wait('a slice', () => (vm.record('a').copy?.offset ?? 0) > 0);
  await vm.vms.machines.a.crash(VM);
  await startAgain(vm.vms);
  await vm.vms.change('a', 20);
  await vm.replicated('a');
  await vm.vms.change('a', 20);
  await vm.replicated('a');
});

/** Notes how far the present copy is, until the returned function is called. */
function watchCopy(vm: ReplicatedVm, seen: { blocks: number; different: number }[]): () => void {
  const { store } = vm.host('a').services;
  const put = store.putRelationship.bind(store);
  store.putRelationship = (record) => {
    if (record.copy !== null) {
      seen.push({ blocks: record.copy.blocksCompared, different: record.copy.blocksDifferent });
    }
    put(record);
  };
  return () => void (store.putRelationship = put);
}
