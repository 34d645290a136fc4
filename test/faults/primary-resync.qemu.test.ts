/** A comparison that waits for its window or for a person, is suspended, cancelled, begun by hand; recovery points stay throughout. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Failure } from '../../src/model/failure.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut } from './two-hosts-process.ts';
import { TwoHosts } from './two-hosts.ts';
import { VM } from './vm-hosts.ts';

/** Replicated, with two points, and the setting. */
async function begin(t: TestContext, autoResync: string): Promise<ReplicatedVm> {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 65_536);
  await vm.replicated('a');
  // Small enough for a comparison to be many slices.
  await vm.hosts.a.ask('replicationSet', { ref: vm.id, autoResync, readBytesPerSecond: 4 * 2 ** 20 });
  return vm;
}

/** Another tool removes the bitmap of ours, and much changes. Only the first so many slices of the comparison get through. */
async function loseBitmap(vm: ReplicatedVm, slices = Number.POSITIVE_INFINITY): Promise<string> {
  const { primaries } = vm.hosts.a.services;
  await primaries.stop(vm.id);
  const { bitmap } = vm.record('a');
  await vm.vms.hypervisors.a.dropBitmap(VM, bitmap!);
  if (slices < Number.POSITIVE_INFINITY) {
    await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 3 * 2 ** 20);
    let puts = 0;
    vm.hosts.a.link.chooser = (call) =>
      call === 'put' && ++puts > slices ? { call, when: 'before', code: 'unreachable' } : undefined;
  } else await vm.vms.change('a', 3);
  primaries.start(vm.id);
  return bitmap!;
}

const isWrongState = (error: unknown) => error instanceof Failure && error.code === 'wrong-state';

const show = (vm: ReplicatedVm) => vm.hosts.a.ask('replicationShow', { ref: vm.id });

/** `18:30-19:30`, which begins in two hours. */
function laterToday(): string {
  const time = (hours: number) => new Date(Date.now() + hours * 3_600_000).toTimeString().slice(0, 5);
  return `${time(2)}-${time(3)}`;
}

void test('never: with a bitmap lost it waits for a person, says why, and keeps every point', async (t) => {
  const vm = await begin(t, 'never');
  const bitmap = await loseBitmap(vm);
  await vm.wait('waiting', () => vm.count('a', 'resync-required') === 1);
  const shown = await show(vm);
  assert.equal(shown.state, 'WaitingForStartResynchronize');
  assert.equal(shown.health, 'critical');
  assert.ok(shown.healthReasons[0]!.includes(bitmap), shown.healthReasons.join());
  assert.equal(shown.resync?.begin, 'by-policy');
  assert.equal(shown.resync?.beginsAt, null);
  assert.deepEqual(await vm.vms.hypervisors.a.listBitmaps(VM), [], 'nothing is begun in the guest');
  assert.equal(await vm.checkAllPoints('b'), 2);
  const { failedCycles } = vm.record('a').statistics;
  vm.hosts.a.services.primaries.loop(vm.id).wake();
  await assert.rejects(
    vm.hosts.a.ask('plannedFailover', { ref: vm.id, start: true, shutdownTimeoutSeconds: 1 }),
    isWrongState,
  );
  const begun = await vm.hosts.a.ask('replicationResync', { ref: vm.id });
  assert.equal(begun.resync?.begin, 'at-once');
  await vm.replicated('a');
  assert.equal(vm.record('a').statistics.failedCycles, failedCycles, 'waiting is no failed cycle');
  assert.equal(vm.count('a', 'resync-required'), 1, 'said once');
  assert.equal((await show(vm)).resync, null);
  assert.equal(await vm.checkAllPoints('b'), 3);
  await vm.checkBitmaps('a');
});

void test('outside its window it waits and says until when; who sets another begins it at once', async (t) => {
  const vm = await begin(t, laterToday());
  await loseBitmap(vm);
  await vm.wait('waiting', () => vm.count('a', 'resync-required') === 1);
  const { resync } = await show(vm);
  const hours = (resync!.beginsAt! - Date.now()) / 3_600_000;
  assert.ok(hours > 1.9 && hours < 2.1, `it begins in ${hours} h`);
  await vm.hosts.a.ask('replicationSet', { ref: vm.id, autoResync: 'always' });
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 1);
  assert.equal(await vm.checkAllPoints('b'), 3);
});

void test('a replica that agrees again needs no comparison: the bitmap was kept', async (t) => {
  const vm = await begin(t, 'never');
  const { primaries, store } = vm.hosts.a.services;
  await primaries.stop(vm.id);
  const { position } = vm.record('a');
  const elsewhere = { ...position, sequence: position.sequence + 5 };
  store.putRelationship({ ...vm.record('a'), position: elsewhere });
  await vm.vms.change('a', 3);
  primaries.start(vm.id);
  await vm.wait('waiting', () => vm.count('a', 'resync-required') === 1);
  store.putRelationship({ ...vm.record('a'), position });
  await vm.replicated('a');
  assert.equal(vm.count('a', 'resync-unneeded'), 1);
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('a comparison that is suspended goes on where it was', async (t) => {
  const vm = await begin(t, 'always');
  await loseBitmap(vm, 2);
  await vm.wait('the third slice', () => (vm.record('a').copy?.offset ?? 0) > 0 && vm.record('a').failure !== null);
  const suspended = await vm.hosts.a.ask('replicationSuspend', { ref: vm.id });
  assert.equal(suspended.state, 'ResynchronizeSuspended');
  const { copy } = vm.record('a');
  assert.ok(copy !== null && copy.mode === 'compare' && copy.blocksCompared > 0);
  await vm.vms.change('a', 3);
  assert.equal(await vm.checkAllPoints('b'), 2);
  vm.hosts.a.link.chooser = () => undefined;
  await vm.hosts.a.ask('replicationResume', { ref: vm.id });
  await vm.wait(
    'going on',
    () => vm.record('a').copy === null || vm.record('a').copy!.blocksCompared >= copy.blocksCompared,
  );
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 1, 'it never started over');
  await vm.checkAllPoints('b');
});

void test('a comparison that is cancelled begins again only when somebody asks, also after a restart of the daemon', async (t) => {
  const vm = await begin(t, 'always');
  await assert.rejects(vm.hosts.a.ask('replicationCancelResync', { ref: vm.id }), isWrongState);
  await loseBitmap(vm, 1);
  await vm.wait('the second slice', () => vm.record('a').copy !== null && vm.record('a').failure !== null);
  const cancelled = await vm.hosts.a.ask('replicationCancelResync', { ref: vm.id });
  vm.hosts.a.link.chooser = () => undefined;
  assert.equal(cancelled.state, 'WaitingForStartResynchronize');
  assert.deepEqual([cancelled.resync?.begin, cancelled.copy], ['by-hand', null]);
  await vm.hosts.close();
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
  await vm.hosts.begin();
  await vm.wait('agreed', () => vm.hosts.a.services.primaries.loop(vm.id).replication.record.inFlight === null);
  await vm.vms.change('a', 3);
  assert.equal((await show(vm)).state, 'WaitingForStartResynchronize');
  assert.equal(await vm.checkAllPoints('b'), 2);
  await vm.hosts.a.ask('replicationResync', { ref: vm.id });
  await vm.replicated('a');
  assert.equal(await vm.checkAllPoints('b'), 3);
  await vm.checkBitmaps('a');
});

void test('what a person has chosen for one comparison does not bind a later one', async (t) => {
  const vm = await begin(t, 'never');
  await loseBitmap(vm);
  await vm.wait('waiting', () => vm.count('a', 'resync-required') === 1);
  await vm.hosts.a.ask('replicationResync', { ref: vm.id });
  await vm.replicated('a');
  await loseBitmap(vm);
  await vm.wait('waiting again', () => vm.count('a', 'resync-required') === 2);
  // A failover takes the setting along.
  await vm.hosts.a.ask('replicationResync', { ref: vm.id });
  await vm.replicated('a');
  await carryOut(vm.hosts, vm.id, { kind: 'planned-failover', on: 'a' });
  assert.equal(vm.record('b').autoResync, 'never');
  await vm.replicated('b');
});
