import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '../../src/model/failure.ts';
import type { ReplicaEndpoint } from '../../src/protocol/endpoint.ts';
import type { Fault } from './faulty-link.ts';
import { startAgain, startReplication } from './primary-world.ts';
import { newSeed, seeded } from './replica-primary.ts';
import { ReplicatedVm } from './replicated-vm.ts';
import { TwoHosts } from './two-hosts.ts';
import { VM, VmHosts } from './vm-hosts.ts';

const CALLS_OF_A_CYCLE: readonly (keyof ReplicaEndpoint)[] = ['status', 'put', 'confirm'];

void test('whichever call of a cycle fails, on its way there or back, replication goes on and nothing is lost', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  const { link } = vm.hosts.a;
  const codes = ['unreachable', 'interrupted', 'timeout', 'busy'] as const;
  let next = 0;
  const code = () => codes[next++ % codes.length]!;
  const faults: Fault[] = CALLS_OF_A_CYCLE.flatMap((call) => [
    { call, when: 'before', code: code() },
    { call, when: 'after', code: code() },
  ]);
  for (const when of [0, 1, 700, 20_000]) faults.push({ call: 'put', when, code: code() });
  for (const fault of faults) {
    const before = link.happened.length;
    // `status` is asked after a failure, and `confirm` when nothing has changed.
    const first = fault.call === 'status' ? [{ ...fault, call: 'confirm' as const }] : [];
    link.once(...first, fault);
    if (fault.call === 'put') await vm.vms.change('a', 20);
    await vm.replicated('a');
    assert.equal(link.happened.length, before + first.length + 1, JSON.stringify(fault));
  }
  await vm.checkAllPoints('b');
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('calls that fail at random, while the guest writes: all is there in the end', async (t) => {
  const vm = await startReplication(t, { changes: 60 });
  const { guest } = vm.vms;
  const { link } = vm.hosts.a;
  const chooser = link.chooser;
  const unlucky = (call: keyof ReplicaEndpoint): Fault | undefined => {
    if (guest.below(3) > 0) return undefined;
    const when = (['before', 'after', guest.below(100_000)] as const)[guest.below(call === 'put' ? 3 : 2)]!;
    const code = (['unreachable', 'interrupted', 'timeout', 'busy'] as const)[guest.below(4)]!;
    return { call, when, code };
  };
  for (let round = 0; round < 4; round++) {
    link.chooser = unlucky;
    const before = link.happened.length;
    await vm.wait('bad luck', async () => {
      vm.hosts.a.services.primaries.loop(vm.id).wake();
      await vm.vms.change('a', 3);
      return link.happened.length > before + guest.below(4);
    });
    link.chooser = chooser;
    await vm.replicated('a');
  }
  t.diagnostic(`${link.happened.length} calls failed`);
  assert.ok(link.happened.length > 0);
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('a comparison survives failing calls too', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  for (const when of ['before', 'after'] as const) {
    await vm.vms.change('a', 10);
    await vm.vms.machines.a.crash(vm.record('a').vmId);
    await startAgain(vm.vms);
    const before = vm.hosts.a.link.happened.length;
    vm.hosts.a.link.once(
      { call: 'digests', when, code: 'unreachable' },
      { call: 'digests', when, code: 'busy' },
      { call: 'put', when, code: 'interrupted' },
    );
    await vm.replicated('a');
    assert.equal(vm.hosts.a.link.happened.length, before + 3);
  }
  assert.equal(vm.count('a', 'comparing'), 2);
});

void test('a link that is cut in the middle of the initial copy: it goes on where it was, without a comparison', async (t) => {
  const vm = await startReplication(t, { changes: 60 });
  await vm.wait('a slice', () => (vm.record('a').copy?.offset ?? 0) > 0);
  vm.hosts.cut = true;
  await vm.wait('trouble', () => vm.record('a').failure?.code === 'unreachable');
  await vm.vms.change('a', 20);
  const { copy } = vm.record('a');
  vm.hosts.cut = false;
  await vm.replicated('a');
  assert.ok(copy !== null);
  assert.equal(vm.count('a', 'comparing'), 0);
  assert.equal(vm.record('a').failure, null);
});

void test('an outage of many cycles: the guest goes on, and one cycle brings it all', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  vm.hosts.cut = true;
  for (let i = 0; i < 5; i++) {
    await vm.vms.change('a', 5);
    vm.hosts.a.services.primaries.loop(vm.id).wake();
  }
  await vm.wait('trouble', () => vm.record('a').failure?.code === 'unreachable');
  assert.equal(vm.vms.machines.a.running.get(vm.record('a').vmId)?.paused, false);
  vm.hosts.cut = false;
  await vm.replicated('a');
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('a point that can not be closed leaves no second sender behind', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  const { a } = vm.vms.hypervisors;
  const { link } = vm.hosts.a;
  const closePoint = a.closePoint.bind(a);
  // The log is whole, its first tries fail, and the hypervisor is away when the point is to be closed.
  a.closePoint = async (vmId) => {
    if ((vm.record('a').inFlight?.makes ?? null) === null) return await closePoint(vmId);
    a.closePoint = closePoint;
    throw new Failure('libvirt-down', 'the hypervisor is away');
  };
  let puts = 0;
  link.chooser = (call) => {
    if (call !== 'put') return undefined;
    return ++puts <= 3 ? { call, when: 'before', code: 'unreachable' } : undefined;
  };
  await vm.vms.change('a', 20);
  await vm.replicated('a');
  // Whoever still waited to try again would do it by now.
  const acknowledged = performance.now();
  const needed = puts; // three that failed, the last, and what was under way when the cycle failed
  while (performance.now() - acknowledged < 2500) await vm.replicated('a');
  assert.equal(puts, needed);
  assert.ok(needed >= 4, `${needed} tries`);
  assert.equal(link.mostPuts, 1);
  assert.equal(vm.count('a', 'comparing'), 0);
});

void test('enabling whose answer gets lost leaves nothing behind, or what the next try goes on with', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const vms = await VmHosts.make(seeded(seed));
  const hosts = await TwoHosts.open(vms.directory, vms.hypervisors);
  t.after(async () => {
    await hosts.close();
    await vms.dispose();
  });
  await hosts.begin();
  await vms.hypervisors.a.setAutostart(VM, true);
  await vms.hypervisors.a.start(VM);
  await vms.change('a', 10);
  const there = () => hosts.b.services.replicas.all().length + hosts.b.services.store.relationships().length;
  const { link } = hosts.a;
  const answerLost = { call: 'prepare', when: 'after', code: 'interrupted' } as const;

  link.once(answerLost);
  await assert.rejects(ReplicatedVm.enable(hosts, vms), { code: 'interrupted' });
  assert.deepEqual(hosts.a.services.store.relationships(), []);
  assert.equal((await vms.hypervisors.a.getVm(VM)).autostart, true);
  assert.equal(there(), 0);
  await assert.rejects(vms.hypervisors.b.getVm(VM), { code: 'not-found' });

  link.once(answerLost, { call: 'remove', when: 'before', code: 'unreachable' });
  await assert.rejects(ReplicatedVm.enable(hosts, vms), { code: 'interrupted' });
  const told = hosts.a.services.store.events({ limit: 10 }).filter(({ kind }) => kind === 'peer-not-told');
  assert.equal(told.length, 1);
  assert.equal(there(), 2, 'one replica that nobody here knows of');

  const vm = await ReplicatedVm.enable(hosts, vms);
  await vm.replicated('a');
  assert.equal(there(), 2);
});
