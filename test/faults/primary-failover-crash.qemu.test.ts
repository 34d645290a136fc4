/** Daemons killed at the crash points of every failover: the one that carries it out, or both. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  backward,
  begin,
  checkEnd,
  checkImages,
  checkNoPoints,
  die,
  forward,
  places,
  sample,
  told,
} from './crash-places.ts';
import { IN_REMOVING } from './crash-points.ts';
import { checkRuns, startAgain } from './primary-world.ts';
import { carryOut, ended } from './two-hosts-process.ts';
import { other, type HostName } from './two-hosts.ts';
import { VM } from './vm-hosts.ts';

void test('killed at any step of a planned failover: it is finished, nothing is lost, nothing compared', async (t) => {
  const vm = await begin(t);
  let where: HostName = 'a';
  const there = [...forward('take-over'), ...IN_REMOVING];
  for (const place of sample(vm, [...places(forward('planned-failover')), ...places(there, 'other')], 2)) {
    t.diagnostic(told(place));
    await vm.vms.change(where, 4);
    await die(vm, place, where, { kind: 'planned-failover', on: where });
    await ended(vm.hosts, vm.id);
    checkEnd(vm, where, 'planned-failover', 'done');
    where = other(where);
    checkEnd(vm, where, 'take-over', 'done');
    await checkRuns(vm, where);
    await checkNoPoints(vm, where);
    await vm.vms.change(where, 4);
    await vm.replicated(where);
  }
  assert.equal(vm.count('a', 'comparing') + vm.count('b', 'comparing'), 0);
  await checkImages(vm);
});

void test('killed while a planned failover is taken back: the guest runs on where it was, and is replicated', async (t) => {
  const vm = await begin(t);
  const here = places(backward('planned-failover', 'hand over'));
  const there = places(backward('take-over', 'start the VM'), 'other');
  for (const place of sample(vm, [...here, ...there], 1)) {
    t.diagnostic(told(place));
    await vm.vms.change('a', 4);
    vm.vms.hypervisors.b.refuses = true;
    await die(vm, place, 'a', { kind: 'planned-failover', on: 'a' });
    await ended(vm.hosts, vm.id);
    vm.vms.hypervisors.b.refuses = false;
    checkEnd(vm, 'a', 'planned-failover', 'undone');
    checkEnd(vm, 'b', 'take-over', 'undone');
    await checkRuns(vm, 'a');
    await vm.vms.change('a', 4);
    await vm.replicated('a');
  }
  assert.equal(vm.count('a', 'comparing'), 0);
  await checkImages(vm);
});

void test('killed at any step of an unplanned failover and of its cancelling: all points stay, the old primary goes on', async (t) => {
  const vm = await begin(t);
  const cancels = sample(vm, places(forward('cancel-failover')), 1);
  for (const place of sample(vm, places(forward('unplanned-failover')), 1)) {
    const cancel = cancels.pop();
    t.diagnostic(`${told(place)}; ${told(cancel)}`);
    const older = await vm.replicated('a');
    await vm.vms.change('a', 4);
    const latest = await vm.replicated('a');
    vm.hosts.cut = true;
    await vm.vms.change('a', 2);
    const lost = vm.vms.guest.snapshot();
    await vm.vms.machines.a.crash(VM);
    const point = vm.vms.guest.below(2) === 0 ? older : latest;
    await die(vm, place, 'b', { kind: 'unplanned-failover', on: 'b', point });
    await ended(vm.hosts, vm.id);
    checkEnd(vm, 'b', 'unplanned-failover', 'done');
    vm.vms.guest.goOnFrom(vm.states.get(point)!);
    await checkRuns(vm, 'b');
    await vm.vms.change('b', 4);
    if (cancel === undefined) await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
    else await die(vm, cancel, 'b', { kind: 'cancel-failover', on: 'b' });
    await ended(vm.hosts, vm.id);
    assert.equal((await vm.vms.hypervisors.b.getVm(VM)).state, 'off');
    assert.ok((await vm.checkAllPoints('b')) >= 2);
    await startAgain(vm.vms);
    vm.vms.guest.goOnFrom(lost);
    vm.hosts.cut = false;
    await vm.replicated('a');
    await checkRuns(vm, 'a');
  }
  await checkImages(vm);
});

void test('killed while an unplanned failover is taken back: all points stay, replication goes on', async (t) => {
  const vm = await begin(t);
  for (const place of sample(vm, places(backward('unplanned-failover', 'start the VM')), 1)) {
    t.diagnostic(told(place));
    await vm.vms.change('a', 4);
    const point = await vm.replicated('a');
    vm.hosts.cut = true;
    await vm.vms.machines.a.crash(VM);
    vm.vms.hypervisors.b.refuses = true;
    await die(vm, place, 'b', { kind: 'unplanned-failover', on: 'b', point });
    await ended(vm.hosts, vm.id);
    vm.vms.hypervisors.b.refuses = false;
    checkEnd(vm, 'b', 'unplanned-failover', 'undone');
    await assert.rejects(vm.vms.hypervisors.b.start(VM), 'its definition is locked');
    await vm.checkAllPoints('b');
    await startAgain(vm.vms);
    vm.hosts.cut = false;
    await vm.replicated('a');
    await checkRuns(vm, 'a');
  }
  await checkImages(vm);
});

void test('killed at any step of completing and of reversing: the guest goes on, both sides are equal', async (t) => {
  const vm = await begin(t);
  let where: HostName = 'a';
  const completes = sample(vm, places([...forward('complete-failover'), ...IN_REMOVING]), 1);
  for (const place of sample(vm, places(forward('reverse-replication')), 2)) {
    const complete = completes.pop();
    t.diagnostic(`${told(complete)}; ${told(place)}`);
    const there = other(where);
    const older = await vm.replicated(where);
    await vm.vms.change(where, 4);
    const latest = await vm.replicated(where);
    vm.hosts.cut = true;
    await vm.vms.change(where, 2);
    const lost = vm.vms.guest.snapshot();
    await vm.vms.machines[where].crash(VM);
    const point = vm.vms.guest.below(2) === 0 ? older : latest;
    await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: there, point });
    vm.vms.guest.goOnFrom(vm.states.get(point)!);
    await vm.vms.change(there, 4);
    if (complete !== undefined) {
      await die(vm, complete, there, { kind: 'complete-failover', on: there });
      await ended(vm.hosts, vm.id);
      checkEnd(vm, there, 'complete-failover', 'done');
      await checkRuns(vm, there);
      await checkNoPoints(vm, there);
      await vm.vms.change(there, 2);
    }
    vm.hosts.cut = false;
    await die(vm, place, there, { kind: 'reverse-replication', on: there });
    await ended(vm.hosts, vm.id);
    checkEnd(vm, there, 'reverse-replication', 'done');
    await vm.replicated(there);
    await checkRuns(vm, there);
    const found = vm
      .host(where)
      .services.replicas.get(vm.id)
      .points()
      .find(({ kind }) => kind === 'found');
    await vm.checkPoint(where, found!.sequence, lost);
    await vm.vms.change(there, 2);
    await vm.replicated(there);
    vm.states.clear(); // the points of the other side went with the failover
    where = there;
  }
  await checkImages(vm);
});
