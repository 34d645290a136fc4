/** What a primary had still to send goes with its role, and with the relationship: it may be 4 GiB. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut } from './two-hosts-process.ts';
import { VM } from './vm-hosts.ts';

/** Host a has a log that is half way to the replica, and the link is cut; gives where it lies. */
async function logInFlight(vm: ReplicatedVm): Promise<string> {
  await vm.replicated('a');
  const { link, services } = vm.hosts.a;
  link.once({ call: 'put', when: 500, code: 'interrupted' });
  link.once({ call: 'durableOffset', when: 'before', code: 'unreachable' });
  await vm.vms.change('a', 6);
  const loop = services.primaries.loop(vm.id);
  await vm.wait('a log in flight', () => {
    loop.wake();
    const { failure, inFlight } = vm.record('a');
    return failure !== null && inFlight !== null && inFlight.makes !== null;
  });
  vm.hosts.cut = true;
  await services.primaries.stop(vm.id);
  const path = loop.replication.services.outbox.path(vm.record('a').inFlight!.logId);
  assert.ok(existsSync(path), 'the log is in the outbox');
  return path;
}

void test('the log that an old primary could not send goes when it becomes the Replica server', async (t) => {
  const vm = await startReplication(t);
  const path = await logInFlight(vm);
  const running = vm.vms.machines.a.runningVm(VM);
  running.paused = true; // the guard of these tests allows no second runner
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  running.paused = false;
  vm.vms.guest.goOnFrom(vm.states.get(vm.record('b').failover!.sequence)!);
  vm.hosts.cut = false;
  vm.hosts.a.services.primaries.start(vm.id);
  await vm.wait('stepped down', () => vm.record('a').state === 'SteppedDown');
  assert.ok(existsSync(path), 'the failover may still be cancelled');
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  await vm.replicated('b');
  assert.equal(vm.record('a').role, 'replica');
  assert.ok(!existsSync(path), 'nobody will ever send it');
});

void test('the log that a primary could not send goes with the relationship', async (t) => {
  const vm = await startReplication(t);
  const path = await logInFlight(vm);
  await carryOut(vm.hosts, vm.id, { kind: 'remove-replication', on: 'a' });
  assert.ok(!existsSync(path));
});
