/** What a guest writes again as it was doesn't travel: the primary knows, block by block, what the replica has. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IN_AN_UNCHANGED_CYCLE } from './crash-points.ts';
import { startAgain, startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { TwoHosts } from './two-hosts.ts';
import { VM } from './vm-hosts.ts';

/** Runs a cycle, or two, over what the guest has written; gives what was counted meanwhile. */
async function cycle(vm: ReplicatedVm) {
  const before = vm.record('a');
  await vm.replicated('a');
  const { statistics, position } = vm.record('a');
  const of = (name: 'cycles' | 'sentBytes' | 'changedBytes' | 'unchangedBytes') =>
    statistics[name] - before.statistics[name];
  return {
    logs: position.sequence - before.position.sequence,
    cycles: of('cycles'),
    sent: of('sentBytes'),
    changed: of('changedBytes'),
    unchanged: of('unchangedBytes'),
  };
}

void test('writing the same again sends nothing, is told, and is not looked at twice', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a'); // the initial copy
  await vm.vms.rewrite('a');
  const { unchanged, ...rest } = await cycle(vm);
  assert.deepEqual(rest, { logs: 0, cycles: 0, sent: 0, changed: 0 });
  assert.ok(unchanged > 0);
  assert.equal((await cycle(vm)).unchanged, 0);
  await vm.checkBitmaps('a');
  // Something else among it does travel, and nothing but that.
  await vm.vms.rewrite('a');
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 4096); // a change at random may write zeros over zeros
  const mixed = await cycle(vm);
  assert.ok(mixed.changed > 0 && mixed.changed < mixed.unchanged, JSON.stringify(mixed));
  await vm.checkAllPoints('b');
  // Also after a restart.
  await vm.hosts.close();
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
  await vm.hosts.begin();
  await rewritten(vm);
});

void test('a daemon that dies when nothing had changed goes on with the bitmap that counts', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  for (const crash of IN_AN_UNCHANGED_CYCLE) {
    await vm.hosts.a.services.primaries.stop(vm.id);
    await vm.vms.rewrite('a');
    await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
    await vm.vms.change('a', 3);
    await vm.replicated('a');
    await vm.checkBitmaps('a');
  }
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('what a comparison has found out, and what slices have carried, is known too', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.vms.machines.a.crash(VM);
  await startAgain(vm.vms);
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 1);
  await rewritten(vm);
  vm.hosts.a.outboxLimit = 300_000;
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 3 * 2 ** 20);
  vm.hosts.a.services.primaries.loop(vm.id).wake();
  await vm.wait('catching up', () => vm.count('a', 'catching-up') > 0);
  await vm.replicated('a');
  vm.hosts.a.outboxLimit = Number.POSITIVE_INFINITY;
  await rewritten(vm);
});

/** All that the guest has is written again, and nothing of it travels. */
async function rewritten(vm: ReplicatedVm): Promise<void> {
  await vm.vms.rewrite('a');
  const { sent, unchanged } = await cycle(vm);
  assert.equal(sent, 0);
  assert.ok(unchanged > 0);
}
