/** More has changed than fits one log: it goes in slices, and one point closes them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut } from './two-hosts-process.ts';
import { VM } from './vm-hosts.ts';

const LIMIT = 300_000;

/** The guest has changed much more than a log may hold, which is noticed each MiB. */
async function changeMuch(vm: ReplicatedVm): Promise<void> {
  await vm.vms.change('a', 20);
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 3 * 2 ** 20);
}

void test('what does not fit one log goes in slices while the guest writes; older points stay, one point closes it', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  vm.hosts.a.outboxLimit = LIMIT;
  for (let i = 0; i < 2; i++) {
    await changeMuch(vm);
    vm.hosts.a.services.primaries.loop(vm.id).wake();
    await vm.wait('catching up', () => vm.count('a', 'catching-up') > i);
    await vm.vms.change('a', 3);
    await vm.checkAllPoints('b');
    await vm.replicated('a');
    await vm.checkBitmaps('a');
  }
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('an initial copy whose closing does not fit one log catches up', async (t) => {
  const vm = await startReplication(t, { changes: 60, begin: false });
  vm.hosts.a.outboxLimit = LIMIT;
  vm.hosts.a.link.chooser = (call) => (call === 'put' ? { call, when: 'before', code: 'unreachable' } : undefined);
  await vm.wait('the copy', () => vm.record('a').copy !== null);
  await changeMuch(vm);
  vm.hosts.a.link.chooser = () => undefined;
  await vm.replicated('a');
  assert.ok(vm.count('a', 'catching-up') > 0);
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('a daemon that is killed while it catches up goes on, without a comparison', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  vm.hosts.a.outboxLimit = LIMIT;
  for (const crash of ['slice:opened', 'slice:acknowledged']) {
    await vm.hosts.a.services.primaries.stop(vm.id); // the change is the other process's to find
    await changeMuch(vm);
    await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
    await vm.vms.change('a', 3);
    await vm.replicated('a');
    await vm.checkBitmaps('a');
  }
  assert.ok(vm.count('a', 'catching-up') >= 2);
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('a host that dies while it catches up: failover to the last point; its own return compares', async (t) => {
  const vm = await startReplication(t);
  const point = await vm.replicated('a');
  vm.hosts.a.outboxLimit = LIMIT;
  let puts = 0;
  vm.hosts.a.link.chooser = (call) =>
    call === 'put' && ++puts > 1 ? { call, when: 'before', code: 'unreachable' } : undefined;
  await changeMuch(vm);
  await vm.wait('the second slice', () => {
    vm.hosts.a.services.primaries.loop(vm.id).wake();
    return puts > 1 && vm.record('a').state === 'CatchingUp';
  });
  vm.hosts.cut = true;
  await vm.vms.machines.a.crash(VM);
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  await vm.checkGuest('b', vm.states.get(point));
  vm.vms.guest.goOnFrom(vm.states.get(point)!);
  await vm.vms.change('b', 3);
  vm.hosts.cut = false;
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  await vm.replicated('b');
  await vm.checkGuest('b');
});
