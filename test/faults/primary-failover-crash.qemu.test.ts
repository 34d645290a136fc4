/**
 * Daemons killed at the crash points of every failover. A run takes some of them, by its seed; `CRASHES=all` takes all.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { PlanDefinition } from '../../src/journal/runner.ts';
import { checkRuns, startAgain, startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut, ended } from './two-hosts-process.ts';
import { other, PLANS, type HostName } from './two-hosts.ts';
import { VM } from './vm-hosts.ts';

const ALL = process.env['CRASHES'] === 'all';

function plan(kind: string): PlanDefinition<never> {
  const found = PLANS.find((candidate) => candidate.kind === kind);
  assert.ok(found !== undefined, kind);
  return found as PlanDefinition<never>;
}

const forward = (kind: string) => [
  `${kind}:begun`,
  ...plan(kind).steps.flatMap(({ name }) => ['before', 'after', 'written'].map((at) => `${kind}:${name}:${at}`)),
];

/** From the step that fails back to the first. */
const backward = (kind: string, from: string) => {
  const { steps } = plan(kind);
  const undone = steps.slice(0, steps.findIndex(({ name }) => name === from) + 1);
  return [
    `${kind}:undoing`,
    ...undone.flatMap(({ name }) => ['before', 'after', 'written'].map((at) => `${kind}:${name}:undo-${at}`)),
  ];
};

/** Takes `count` of the points, or all of them. */
function sample(vm: ReplicatedVm, points: readonly string[], count: number): string[] {
  const left = [...points];
  const taken: string[] = [];
  while (left.length > 0 && (ALL || taken.length < count))
    taken.push(...left.splice(vm.vms.guest.below(left.length), 1));
  return taken;
}

/** The plan of that kind that was begun last ended so. */
function checkEnd(vm: ReplicatedVm, where: HostName, kind: string, state: 'done' | 'undone'): void {
  const last = vm
    .host(where)
    .services.actions.journal.plans()
    .findLast((candidate) => candidate.kind === kind);
  assert.equal(last?.state, state, JSON.stringify(last));
}

async function begin(t: TestContext): Promise<ReplicatedVm> {
  const vm = await startReplication(t, { history: 6 });
  await vm.replicated('a');
  return vm;
}

void test('killed at any step of a planned failover: it is finished, nothing is lost, nothing compared', async (t) => {
  const vm = await begin(t);
  let where: HostName = 'a';
  for (const crash of sample(vm, [...forward('planned-failover'), ...forward('take-over')], 3)) {
    t.diagnostic(crash);
    await vm.vms.change(where, 4);
    await vm.crashAt(crash, { kind: 'planned-failover', on: where });
    await ended(vm.hosts, vm.id);
    checkEnd(vm, where, 'planned-failover', 'done');
    where = other(where);
    checkEnd(vm, where, 'take-over', 'done');
    await checkRuns(vm, where);
    await vm.vms.change(where, 4);
    await vm.replicated(where);
  }
  assert.equal(vm.count('a', 'comparing') + vm.count('b', 'comparing'), 0);
});

void test('killed while a planned failover is taken back: the guest runs on where it was, and is replicated', async (t) => {
  const vm = await begin(t);
  const points = [...backward('planned-failover', 'hand over'), ...backward('take-over', 'start the VM')];
  for (const crash of sample(vm, points, 2)) {
    t.diagnostic(crash);
    await vm.vms.change('a', 4);
    vm.vms.hypervisors.b.refuses = true;
    await vm.crashAt(crash, { kind: 'planned-failover', on: 'a' });
    await ended(vm.hosts, vm.id);
    vm.vms.hypervisors.b.refuses = false;
    checkEnd(vm, 'a', 'planned-failover', 'undone');
    checkEnd(vm, 'b', 'take-over', 'undone');
    await checkRuns(vm, 'a');
    await vm.vms.change('a', 4);
    await vm.replicated('a');
  }
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('killed at any step of an unplanned failover and of its cancelling: all points stay, the old primary goes on', async (t) => {
  const vm = await begin(t);
  const cancels = sample(vm, forward('cancel-failover'), 1);
  for (const crash of sample(vm, forward('unplanned-failover'), 1)) {
    const cancel = cancels.pop();
    t.diagnostic(`${crash}, ${cancel}`);
    const older = await vm.replicated('a');
    await vm.vms.change('a', 4);
    const latest = await vm.replicated('a');
    vm.hosts.cut = true;
    await vm.vms.change('a', 2);
    const lost = vm.vms.guest.snapshot();
    await vm.vms.machines.a.crash(VM);
    const point = vm.vms.guest.below(2) === 0 ? older : latest;
    await vm.crashAt(crash, { kind: 'unplanned-failover', on: 'b', point });
    await ended(vm.hosts, vm.id);
    checkEnd(vm, 'b', 'unplanned-failover', 'done');
    vm.vms.guest.goOnFrom(vm.states.get(point)!);
    await checkRuns(vm, 'b');
    await vm.vms.change('b', 4);
    if (cancel === undefined) await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
    else await vm.crashAt(cancel, { kind: 'cancel-failover', on: 'b' });
    await ended(vm.hosts, vm.id);
    assert.equal((await vm.vms.hypervisors.b.getVm(VM)).state, 'off');
    assert.ok((await vm.checkAllPoints('b')) >= 2);
    await startAgain(vm.vms);
    vm.vms.guest.goOnFrom(lost);
    vm.hosts.cut = false;
    await vm.replicated('a');
    await checkRuns(vm, 'a');
  }
});

void test('killed while an unplanned failover is taken back: all points stay, replication goes on', async (t) => {
  const vm = await begin(t);
  for (const crash of sample(vm, backward('unplanned-failover', 'start the VM'), 1)) {
    t.diagnostic(crash);
    await vm.vms.change('a', 4);
    const point = await vm.replicated('a');
    vm.hosts.cut = true;
    await vm.vms.machines.a.crash(VM);
    vm.vms.hypervisors.b.refuses = true;
    await vm.crashAt(crash, { kind: 'unplanned-failover', on: 'b', point });
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
});

void test('killed at any step of completing and of reversing: the guest goes on, both sides are equal', async (t) => {
  const vm = await begin(t);
  let where: HostName = 'a';
  const completes = sample(vm, forward('complete-failover'), 1);
  for (const crash of sample(vm, forward('reverse-replication'), 2)) {
    const complete = completes.pop();
    t.diagnostic(`${complete}, ${crash}`);
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
      await vm.crashAt(complete, { kind: 'complete-failover', on: there });
      await ended(vm.hosts, vm.id);
      checkEnd(vm, there, 'complete-failover', 'done');
      await checkRuns(vm, there);
      await vm.vms.change(there, 2);
    }
    vm.hosts.cut = false;
    await vm.crashAt(crash, { kind: 'reverse-replication', on: there });
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
});
