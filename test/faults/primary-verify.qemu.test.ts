/** Both sides are compared along with cycles, or when asked for; what differs is named, sent again, and proven. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flipStored } from './corruption.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { DISKS, VM } from './vm-hosts.ts';

const MIB = 1024 * 1024;

/** Three points; what the last of them changed is little. */
async function withPoints(t: Parameters<typeof startReplication>[0]): Promise<ReplicatedVm> {
  const vm = await startReplication(t, { changes: 10 });
  await vm.replicated('a');
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 2 * MIB);
  await vm.replicated('a');
  await vm.vms.change('a', 2);
  await vm.replicated('a');
  return vm;
}

function disk(vm: ReplicatedVm, host: 'a' | 'b', index = 0): string {
  return vm.record(host).disks[index]!.path;
}

/** Asks for a comparison, and waits for its end. */
async function verify(vm: ReplicatedVm): Promise<void> {
  const before = vm.count('a', 'verified');
  await vm.hosts.a.ask('replicationVerify', { ref: vm.id });
  await vm.wait('compared', () => vm.count('a', 'verified') > before);
}

const shown = async (vm: ReplicatedVm, host: 'a' | 'b') => (await vm.hosts.host(host).ask('replicationList', {}))[0]!;

void test('two sides that hold the same are proven to', async (t) => {
  const vm = await withPoints(t);
  assert.equal((await shown(vm, 'a')).verification!.last, null);
  await verify(vm);
  const { equalAt, last, different, nextDue } = (await shown(vm, 'a')).verification!;
  assert.equal(equalAt, vm.record('a').protectedUntil);
  assert.ok(last !== null && last.leftOutBytes === 0 && last.ended >= last.began);
  assert.deepEqual([different, nextDue], [0, null]);
  await assert.rejects(vm.hosts.b.ask('replicationVerify', { ref: vm.id }), { code: 'wrong-role' });
});

void test('a bit that rots at the replica is found, named, and mended; no recovery point keeps it', async (t) => {
  const vm = await withPoints(t);
  const at = await flipStored(disk(vm, 'b'), 0.4);
  await verify(vm);
  await vm.wait('mended', () => vm.count('a', 'verify-repaired') === 1);
  const [told] = vm.events('a').filter(({ kind }) => kind === 'verify-different');
  const offset = Math.floor(at / 65_536) * 65_536;
  assert.match(told!.message, new RegExp(`^vda differs.*64 KiB at ${offset} \\(changed at the replica`));
  const { different, repaired, unrepairedBytes } = (await shown(vm, 'a')).verification!;
  assert.deepEqual([different, repaired, unrepairedBytes], [1, 1, 0]);
  // On a loaded machine cycles are missed, which is a reason of its own.
  assert.ok(!(await shown(vm, 'a')).healthReasons.some((reason) => reason.includes('differ')));
  await vm.wait('whole', () => vm.hosts.b.services.replicas.get(vm.id).unsound.size === 0);
  assert.ok((await vm.checkAllPoints('b')) >= 3);
});

void test('a bit that rots at the primary is named as that, and sent; older points keep what was there', async (t) => {
  const vm = await withPoints(t);
  const at = await flipStored(disk(vm, 'a'), 0.3, 5);
  vm.vms.guest.bytes[0]![at]! ^= 1 << 5; // what a guest reads from now on
  await verify(vm);
  await vm.wait('mended', () => vm.count('a', 'verify-repaired') === 1);
  const [told] = vm.events('a').filter(({ kind }) => kind === 'verify-different');
  assert.match(told!.message, /changed at the primary without being tracked/);
  assert.equal(vm.hosts.b.services.replicas.get(vm.id).unsound.size, 0);
  await vm.checkAllPoints('b');
  await vm.replicated('a');
});

void test('while it is not mended, nothing is started from a point that holds it, but at a person’s word', async (t) => {
  const vm = await withPoints(t);
  const at = await flipStored(disk(vm, 'b'), 0.4);
  const replica = vm.hosts.b.services.replicas.get(vm.id);
  // The primary is lost before it can mend it.
  await vm.hosts.b.ask('replicationScrub', { ref: vm.id });
  vm.hosts.a.link.cut = true;
  await vm.wait('found', () => vm.count('b', 'replica-damaged') === 1);
  const { healthReasons, scrub } = await shown(vm, 'b');
  assert.ok(
    healthReasons.some((reason) => /64 KiB of the disks are damaged/.test(reason)),
    healthReasons.join('; '),
  );
  assert.ok(scrub!.damagedPoints >= 2 && scrub!.unrepairedBytes === 65_536);
  const points = await vm.hosts.b.ask('pointList', { ref: vm.id });
  assert.match(points[0]!.damaged!, /damaged bytes on vda/);
  const [latest] = replica.points();
  await assert.rejects(replica.openView(latest!.sequence), { code: 'point-damaged' });
  vm.hosts.cut = true;
  const failover = { ref: vm.id, force: true };
  await assert.rejects(vm.hosts.b.ask('unplannedFailover', failover), { code: 'point-damaged' });
  await assert.rejects(vm.hosts.b.ask('testFailoverStart', { ref: vm.id }), { code: 'point-damaged' });
  await vm.vms.machines.a.crash(VM);
  await vm.hosts.b.ask('unplannedFailover', { ...failover, damaged: true });
  await vm.settled('b');
  const wanted = vm.states.get(latest!.sequence)!.map((bytes) => Buffer.from(bytes));
  wanted[0]![at]! ^= 1;
  await vm.checkGuest('b', wanted);
});

void test('along with cycles, a slice each; a VM that is off is compared, too', async (t) => {
  const vm = await startReplication(t, { changes: 40, begin: false });
  vm.hosts.a.verifySeconds = 5;
  const { primaries } = vm.hosts.a.services;
  await primaries.forget(vm.id);
  vm.hosts.a.link.chooser = () => undefined;
  primaries.start(vm.id);
  await vm.replicated('a');
  const passes = () => vm.count('a', 'verified');
  await vm.wait('a pass along with cycles', () => {
    primaries.loop(vm.id).wake();
    return passes() > 0;
  });
  await vm.vms.hypervisors.a.destroy(VM);
  await flipStored(disk(vm, 'b', 1), 0.5);
  await vm.wait('found and mended while it is off', () => {
    primaries.loop(vm.id).wake();
    return vm.count('a', 'verify-repaired') > 0;
  });
  await vm.checkAllPoints('b');
});

void test('a question that gets lost is asked again; a pass goes on where it was after a restart', async (t) => {
  const vm = await withPoints(t);
  vm.hosts.a.link.once(
    { call: 'verify', when: 'before', code: 'unreachable' },
    { call: 'verify', when: 'after', code: 'interrupted' },
  );
  await verify(vm);
  assert.equal(vm.hosts.a.link.happened.length, 2);
  // Begun, and at the second disk, when the daemon ends.
  const { store } = vm.hosts.a.services;
  await vm.hosts.a.services.primaries.stop(vm.id);
  const { verification } = vm.record('a');
  const pass = { began: Date.now(), disk: 1, offset: 0, leftOut: 0 };
  store.putRelationship({ ...vm.record('a'), verification: { ...verification!, asked: true, pass } });
  await flipStored(disk(vm, 'b', 0), 0.5);
  const before = vm.count('a', 'verified');
  vm.hosts.a.services.primaries.start(vm.id);
  await vm.wait('its end', () => vm.count('a', 'verified') > before);
  assert.equal(vm.count('a', 'verify-different'), 0, `the first of ${DISKS.length} disks was behind it`);
});
