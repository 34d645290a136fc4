/** Somebody sets the clock of a host while a VM is replicated, or the host is suspended. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { VM } from './vm-hosts.ts';

const HOUR = 3_600_000;
const YEAR = 365 * 24 * HOUR;

const show = (vm: ReplicatedVm, on: 'a' | 'b') => vm.host(on).ask('replicationShow', { ref: vm.id });

/** The guest writes, and that is at the replica, whatever the clock says. */
async function replicated(vm: ReplicatedVm): Promise<void> {
  // Some of the changes that are made at random change nothing.
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 65_536);
  const { cycles, idleCycles } = vm.record('a').statistics;
  const { primaries, replicas } = { ...vm.hosts.a.services, replicas: vm.hosts.b.services.replicas };
  // One that was under way may have been without it.
  await vm.wait('two cycles', () => {
    primaries.loop(vm.id).wake();
    const { statistics, inFlight } = vm.record('a');
    return statistics.cycles + statistics.idleCycles >= cycles + idleCycles + 2 && inFlight === null;
  });
  const replica = replicas.get(vm.id);
  await replica.drained();
  const { sequence } = replica.points()[0]!;
  vm.states.set(sequence, vm.vms.guest.snapshot());
}

void test('the primary’s clock goes a year ahead and back: cycles, points, lag and health go on', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.hosts.a.ask('replicationSet', {
    ref: vm.id,
    intervalSeconds: 60,
    thin: [{ everySeconds: 3600, count: 24 }],
  });
  const { missedCycles } = vm.record('a').statistics;
  for (const clockSet of [YEAR, 0, -YEAR, 0]) {
    vm.hosts.a.clockSet = clockSet;
    vm.hosts.b.offset = Date.now() + clockSet - performance.now();
    await replicated(vm);
    const { lagMs, healthReasons } = await show(vm, 'a');
    assert.ok(lagMs! < 30_000, `the primary says ${lagMs} ms`);
    // At an interval of a second a loaded machine had missed some before.
    const wrong = healthReasons.filter((reason) => !reason.endsWith('cycles were missed'));
    assert.deepEqual(wrong, []);
    const there = await show(vm, 'b');
    assert.ok(there.lagMs! < 30_000, `the replica says ${there.lagMs} ms`);
    assert.equal(there.health, 'normal', there.healthReasons.join());
  }
  assert.equal(vm.record('a').statistics.missedCycles, missedCycles);
  assert.equal(await vm.checkAllPoints('b'), 5);
});

void test('the primary’s clock goes a year ahead and back: both sides are compared as a whole when it is due, and then only', async (t) => {
  const vm = await startReplication(t, { begin: false });
  vm.hosts.a.verifySeconds = 86_400;
  const { primaries } = vm.hosts.a.services;
  await primaries.forget(vm.id);
  vm.hosts.a.link.chooser = () => undefined;
  primaries.start(vm.id);
  await replicated(vm);
  const passes = () => vm.count('a', 'verified');
  await vm.wait('the first pass', () => {
    primaries.loop(vm.id).wake();
    return passes() === 1;
  });
  for (const clockSet of [YEAR, 0, -YEAR, 0]) {
    vm.hosts.a.clockSet = clockSet;
    await vm.vms.change('a', 2);
    await replicated(vm);
    assert.equal(vm.record('a').verification?.pass, null);
    const { nextDue } = (await show(vm, 'a')).verification!;
    const inMs = nextDue! - (Date.now() + clockSet);
    assert.ok(inMs > 86_000_000 && inMs <= 86_400_000, `due in ${inMs} ms`);
  }
  assert.equal(passes(), 1);
  vm.hosts.a.suspended = 86_400_000; // a day goes by
  await vm.wait('the second pass', () => {
    primaries.loop(vm.id).wake();
    return passes() === 2;
  });
});

void test('the Replica server’s clock goes a year ahead: no point goes, and the lag that it shows is right', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  vm.hosts.b.offset = Date.now() - performance.now();
  await replicated(vm);
  const points = vm.hosts.b.services.replicas.get(vm.id).points().length;
  vm.hosts.cut = true; // nothing new comes: what is known has to do
  for (const clockSet of [YEAR, -YEAR]) {
    vm.hosts.b.clockSet = clockSet;
    const { lagMs } = await show(vm, 'b');
    assert.ok(lagMs! < 30_000, `${lagMs} ms`);
  }
  vm.hosts.b.suspended = 2 * HOUR;
  const silent = await show(vm, 'b');
  assert.ok(silent.lagMs! >= 2 * HOUR, 'that hour counts');
  assert.equal(silent.health, 'critical');
  vm.hosts.cut = false;
  await replicated(vm);
  assert.ok(vm.hosts.b.services.replicas.get(vm.id).points().length > points);
  await vm.checkAllPoints('b');
});

void test('a host that was suspended past a cycle makes it once it is awake, and has missed none', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.hosts.a.ask('replicationSet', { ref: vm.id, intervalSeconds: 3600 });
  await replicated(vm);
  const { cycles, missedCycles } = vm.record('a').statistics;
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 65_536);
  let looks = 0;
  await vm.wait('the cycle', () => {
    // Nobody wakes it here. Again, should it have been in the middle of a cycle.
    if (looks++ % 1000 === 0) vm.hosts.a.clockSet = vm.hosts.a.suspended += 5 * HOUR;
    return vm.record('a').statistics.cycles > cycles;
  });
  assert.equal(vm.record('a').statistics.cycles, cycles + 1);
  assert.equal(vm.record('a').statistics.missedCycles, missedCycles);
  assert.ok((await show(vm, 'a')).lagMs! < 30_000);
});
