import assert from 'node:assert/strict';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { takeOver } from '../../src/failover/take-over.ts';
import { NOT_FOLLOWING } from '../../src/model/not-following.ts';
import { compareImages } from '../../src/qemu/image.ts';
import { checkRuns, failOverBesides, killA, reviveA, startReplication } from './primary-world.ts';
import { difference, readDisks } from './replica-primary.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut, ended } from './two-hosts-process.ts';
import { other, TwoHosts, type HostName } from './two-hosts.ts';
import { DISKS, VM } from './vm-hosts.ts';

/** Both hosts' disks, powered off, read as the same bytes. */
async function checkImagesEqual(vm: ReplicatedVm): Promise<void> {
  const paths = (['a', 'b'] as const).map((name) => vm.record(name).disks.map(({ path }) => path));
  await vm.hosts.close();
  await vm.vms.checkImages(paths.flat());
  for (const [i, path] of paths[0]!.entries()) {
    const compared = await compareImages({ path, format: 'qcow2' }, { path: paths[1]![i]!, format: 'qcow2' });
    assert.ok(compared.identical, compared.difference);
  }
}

void test('planned failover, there and back: nothing is lost, nothing is compared', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  let where: HostName = 'a';
  for (let i = 0; i < 2; i++) {
    await vm.vms.change(where, 6);
    await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: where });
    where = other(where);
    await checkRuns(vm, where);
    await vm.vms.change(where, 6);
    await vm.replicated(where);
  }
  assert.equal(vm.count('a', 'comparing') + vm.count('b', 'comparing'), 0);
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: where });
  await vm.replicated(other(where));
  await checkImagesEqual(vm);
});

void test('a replica that lacks the last state takes no role over, and says what to do', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  const { epoch, received } = vm.hosts.b.services.replicas.get(vm.id).status();
  const request = { planId: 'a-plan', epoch: epoch + 1, start: false };
  const position = { ...received, sequence: received.sequence + 1, state: 'e'.repeat(32) };
  const { cure } = NOT_FOLLOWING['not the last state'];
  const refused = { code: 'not-following', hint: cure, message: /the primary stopped at/ };
  await assert.rejects(vm.hosts.b.endpoint.takeOver(vm.id, { ...request, position }), refused);
  assert.equal(vm.record('b').role, 'replica');
});

void test('a take-over that had ended but was not noted leaves the replica alone that this host has become since', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'a' });
  const { services } = vm.hosts.b;
  const plan = services.actions.journal.plans().find(({ kind }) => kind === 'take-over')!;
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'b' });
  await vm.replicated('a');
  await takeOver.steps.at(-1)!.run(services, plan, new AbortController().signal);
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  assert.equal(vm.record('b').role, 'replica');
});

void test('unplanned failover to the latest point, reversed, and home: only what differs is sent, the old disks stay a point', async (t) => {
  const vm = await startReplication(t, { changes: 40 });
  await vm.replicated('a');
  const kept = vm.vms.guest.snapshot();
  vm.hosts.cut = true;
  await vm.vms.change('a', 3);
  const lost = vm.vms.guest.snapshot();
  await killA(vm);
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  vm.vms.guest.goOnFrom(kept);
  await checkRuns(vm, 'b');
  await vm.vms.change('b', 3);
  await reviveA(vm);
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  await assert.rejects(vm.vms.hypervisors.a.start(VM), 'its definition is locked');
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  await vm.replicated('b');
  await checkRuns(vm, 'b');
  const found = vm.hosts.a.services.replicas
    .get(vm.id)
    .points()
    .find(({ kind }) => kind === 'found');
  assert.ok(found !== undefined, 'what the old primary held is a point');
  await vm.checkPoint('a', found.sequence, lost);
  const { changedBytes } = vm.record('b').statistics;
  assert.ok(changedBytes <= 6 * 6 * 65_536, `${changedBytes} bytes of what 3 and 3 changes touched`);
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'b' });
  await checkRuns(vm, 'a');
  await vm.replicated('a');
  await checkImagesEqual(vm);
});

void test('unplanned failover to an older point, cancelled, then to the latest and completed', async (t) => {
  const vm = await startReplication(t);
  const points: number[] = [];
  for (let i = 0; i < 4; i++) {
    points.push(await vm.replicated('a'));
    await vm.vms.change('a', 6);
  }
  const latest = await vm.replicated('a');
  await killA(vm);
  const older = points[1]!;
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b', point: older });
  await vm.checkGuest('b', vm.states.get(older)!);
  vm.vms.guest.goOnFrom(vm.states.get(older)!);
  await vm.vms.change('b', 6);
  await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
  assert.equal((await vm.vms.hypervisors.b.getVm(VM)).state, 'off');
  await assert.rejects(vm.vms.hypervisors.b.start(VM), 'its definition is locked');
  await vm.checkAllPoints('b');
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  vm.vms.guest.goOnFrom(vm.states.get(latest)!);
  await checkRuns(vm, 'b');
  await vm.vms.change('b', 6);
  await carryOut(vm.hosts, vm.id, { kind: 'complete-failover', on: 'b' });
  await checkRuns(vm, 'b');
  await vm.vms.change('b', 6);
  assert.equal(vm.record('b').state, 'FailedOver');
  await reviveA(vm);
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  await vm.replicated('b');
  await checkRuns(vm, 'b');
});

void test('a failover that is cancelled gives the role back: the old primary goes on, its log in flight or not', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  for (const inFlight of [false, true]) {
    vm.hosts.cut = true;
    await vm.vms.change('a', 6);
    const loop = vm.hosts.a.services.primaries.loop(vm.id);
    if (inFlight) {
      // The link breaks between the agreement and the log.
      vm.hosts.cut = false;
      vm.hosts.a.link.once({ call: 'put', when: 500, code: 'interrupted' });
      vm.hosts.a.link.once({ call: 'durableOffset', when: 'before', code: 'unreachable' });
      await vm.wait('a log in flight', () => {
        loop.wake();
        return vm.record('a').failure !== null && vm.record('a').inFlight !== null;
      });
      vm.hosts.cut = true;
      assert.ok(vm.record('a').inFlight !== null);
    }
    await vm.hosts.a.services.primaries.stop(vm.id);
    await failOverBesides(vm);
    await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
    await reviveA(vm);
    await vm.replicated('a');
    await vm.checkGuest('a');
    assert.equal(vm.count('a', 'stepped-down'), 0, 'nobody paused the guest');
  }
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('a failover while the old primary runs: it is paused at the next contact, and goes on when the failover is cancelled', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  vm.hosts.cut = true;
  await vm.vms.change('a', 3);
  await vm.hosts.a.services.primaries.stop(vm.id);
  await failOverBesides(vm);
  const started = performance.now();
  await reviveA(vm);
  await vm.wait('paused', () => vm.vms.machines.a.runningVm(VM).paused);
  assert.ok(performance.now() - started < 10_000);
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  assert.equal(vm.count('a', 'stepped-down'), 1);
  await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
  await vm.wait('regained', () => vm.count('a', 'role-regained') === 1);
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  await vm.checkGuest('a');
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('a planned failover after one that was cancelled unheard, with nothing sent since', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  vm.hosts.cut = true;
  await failOverBesides(vm);
  const running = vm.vms.machines.a.runningVm(VM);
  running.paused = true;
  await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
  running.paused = false;
  vm.hosts.cut = false;
  assert.ok(vm.hosts.b.services.replicas.get(vm.id).status().epoch > vm.record('a').epoch);
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'a' });
  await checkRuns(vm, 'b');
  assert.equal(vm.count('a', 'stepped-down') + vm.count('a', 'comparing') + vm.count('b', 'comparing'), 0);
});

void test('test failover of any point: an isolated copy that writes, while replication goes on', async (t) => {
  const vm = await startReplication(t);
  const first = await vm.replicated('a');
  await vm.vms.change('a', 6);
  await vm.replicated('a');
  const { b } = vm.hosts;
  await b.ask('testFailoverStart', { ref: vm.id, point: first });
  await ended(vm.hosts, vm.id);
  const { test: running } = vm.record('b');
  assert.ok(running !== null, JSON.stringify(b.services.actions.journal.plans().at(-1)));
  const socketPath = vm.vms.machines.b.writableSocket(running.vmId);
  assert.equal(difference(await readDisks(socketPath, DISKS), vm.states.get(first)!), undefined);
  const real = vm.vms.guest.snapshot();
  vm.vms.guest.goOnFrom(vm.states.get(first)!);
  await vm.vms.guest.change(socketPath, 10);
  const copy = vm.vms.guest.snapshot();
  vm.vms.guest.goOnFrom(real);
  await vm.vms.change('a', 6);
  await vm.replicated('a');
  assert.equal(difference(await readDisks(socketPath, DISKS), copy), undefined);
  // What is running must be ended first.
  await assert.rejects(b.ask('testFailoverStart', { ref: vm.id }), { code: 'already-exists' });
  await assert.rejects(b.ask('unplannedFailover', { ref: vm.id, force: true }), { code: 'wrong-state' });
  await b.ask('testFailoverStop', { ref: vm.id });
  await ended(vm.hosts, vm.id);
  await assert.rejects(vm.vms.hypervisors.b.getVm(running.vmId), { code: 'not-found' });
  assert.equal(b.services.replicas.get(vm.id).openViews, 0);
  await vm.checkAllPoints('b');
});

void test('a planned failover whose other side can not start the VM is taken back: the guest runs on, and is replicated', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.vms.change('a', 3);
  const image = vm.record('b').disks[0]!.path;
  const aside = join(vm.vms.directory, 'aside');
  const { b } = vm.vms.hypervisors;
  const start = b.start.bind(b);
  b.start = async (id) => {
    await rename(image, aside);
    try {
      await start(id);
    } finally {
      await rename(aside, image);
    }
  };
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'a' });
  b.start = start;
  assert.equal(vm.hosts.a.services.actions.journal.plans().at(-1)?.state, 'undone');
  await checkRuns(vm, 'a');
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'a' });
  await checkRuns(vm, 'b');
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('the old primary that fails half way to becoming the Replica server does it when asked again', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await killA(vm);
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  await reviveA(vm);
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  const { a } = vm.vms.hypervisors;
  const define = a.define.bind(a);
  let failures = 0;
  a.define = async (request) => {
    // Locking comes last: the replica is there already.
    if (vm.hosts.a.services.replicas.find(vm.id) !== undefined && failures++ === 0) throw new Error('libvirt is away');
    await define(request);
  };
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  assert.ok(failures > 0);
  await vm.replicated('b');
  await checkRuns(vm, 'b');
});

/** The next planned failover of host a finds the link silent in the middle of what it sends. */
async function fallSilent(vm: ReplicatedVm): Promise<void> {
  const { link, services } = vm.hosts.a;
  await services.primaries.stop(vm.id);
  await vm.vms.change('a', 6);
  const choose = link.chooser;
  link.chooser = (call) => {
    if (call !== 'put') return choose(call);
    link.silent = true;
    link.chooser = choose;
    return { call, when: 'before', code: 'interrupted' };
  };
  await vm.hosts.a.ask('plannedFailover', { ref: vm.id, start: true, shutdownTimeoutSeconds: 10 });
  await vm.wait('silence', () => link.silent);
  link.silent = false; // who waits for an answer gets none; who asks anew does
}

void test('a planned failover whose peer falls silent is cancelled at once, or waits for the next start of the daemon', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await fallSilent(vm);
  const asked = performance.now();
  await vm.hosts.a.ask('cancelFailover', { ref: vm.id });
  assert.ok(performance.now() - asked < 5000, 'nobody waits for an answer');
  assert.equal(vm.hosts.a.services.actions.journal.plans().at(-1)?.state, 'undone');
  await vm.replicated('a');
  await checkRuns(vm, 'a');

  await fallSilent(vm);
  const closed = performance.now();
  await vm.hosts.close();
  assert.ok(performance.now() - closed < 5000, 'nobody waits for an answer');
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
  await vm.hosts.begin();
  await ended(vm.hosts, vm.id);
  await checkRuns(vm, 'b');
  await vm.replicated('b');
  assert.equal(vm.count('a', 'comparing') + vm.count('b', 'comparing'), 0);
});

void test('a primary that waits for an answer hears at once that it has lost the role', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.hosts.a.services.primaries.stop(vm.id);
  vm.hosts.a.link.silent = true;
  vm.hosts.a.services.primaries.start(vm.id); // asks where the replica stands, in vain
  await failOverBesides(vm);
  vm.hosts.a.link.silent = false;
  const told = performance.now();
  vm.hosts.a.roleLost(vm.id);
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  assert.ok(performance.now() - told < 5000);
});

void test('a log that was received, but not acknowledged, when the role was lost is known again after the failover is cancelled', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  const { link, services } = vm.hosts.a;
  // The acknowledgement gets lost, and with it the link.
  const choose = link.chooser;
  link.chooser = (call) => {
    if (call === 'durableOffset') vm.hosts.cut = true;
    return call === 'put' || call === 'durableOffset' ? { call, when: 'after', code: 'interrupted' } : choose(call);
  };
  await vm.vms.change('a', 6);
  await vm.wait('a log in flight', () => vm.hosts.cut && (vm.record('a').inFlight?.makes ?? null) !== null);
  await services.primaries.stop(vm.id);
  link.chooser = choose;
  const { received } = vm.hosts.b.services.replicas.get(vm.id).status();
  assert.deepEqual(received, vm.record('a').inFlight?.makes, 'the replica has it');
  await failOverBesides(vm);
  await reviveA(vm);
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  await carryOut(vm.hosts, vm.id, { kind: 'cancel-failover', on: 'b' });
  await vm.wait('regained', () => vm.count('a', 'role-regained') === 1);
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  await vm.checkGuest('a');
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('the point that a test failover runs from stays while it runs, over restarts, and goes with its end', async (t) => {
  const vm = await startReplication(t, { history: 1 });
  const tested = await vm.replicated('a');
  await vm.hosts.b.ask('testFailoverStart', { ref: vm.id, point: tested });
  await ended(vm.hosts, vm.id);
  const kept = () =>
    vm.hosts.b.services.replicas
      .get(vm.id)
      .points()
      .map(({ sequence }) => sequence);
  for (let i = 0; i < 3; i++) {
    await vm.vms.change('a', 4);
    await vm.replicated('a');
  }
  assert.deepEqual(kept().slice(2), [tested]);
  await vm.hosts.close();
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
  await vm.hosts.begin();
  assert.deepEqual(kept().slice(2), [tested]);
  await vm.checkPoint('b', tested);
  await vm.hosts.b.ask('testFailoverStop', { ref: vm.id });
  await ended(vm.hosts, vm.id);
  assert.deepEqual(kept().slice(2), []);
  await vm.checkAllPoints('b');
});
