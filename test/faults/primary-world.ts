/** What each test of two hosts begins with, and what is cleared when it ends. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { endRelay } from '../../src/qemu/relay.ts';
import { newSeed, seeded } from './replica-primary.ts';
import { ReplicatedVm } from './replicated-vm.ts';
import { carryOut } from './two-hosts-process.ts';
import { other, TwoHosts, type HostName } from './two-hosts.ts';
import { VM, VmHosts } from './vm-hosts.ts';

export interface WorldOptions {
  readonly history?: number;
  /** Writes before replication begins. */
  readonly changes?: number;
  /** False: the relationship is there, and nothing has been done yet. */
  readonly begin?: boolean;
  /** The VM starts with its host. */
  readonly autostart?: boolean;
}

/** Replication of a running guest that has written already; the initial copy has begun. */
export async function startReplication(t: TestContext, options: WorldOptions = {}): Promise<ReplicatedVm> {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const vms = await VmHosts.make(seeded(seed));
  const hosts = await TwoHosts.open(vms.directory, vms.hypervisors);
  let vm: ReplicatedVm | undefined;
  t.after(async () => {
    await (vm?.hosts ?? hosts).close();
    await endRelays(vms.directory);
    await vms.dispose();
  });
  await hosts.begin();
  await vms.hypervisors.a.setAutostart(VM, options.autostart ?? false);
  await vms.hypervisors.a.start(VM);
  await vms.change('a', options.changes ?? 30);
  // Nothing begins while the replica can't be reached.
  const held = options.begin === false;
  if (held) hosts.a.link.chooser = (call) => (call === 'prepare' ? undefined : { call, when: 'before', code: 'busy' });
  vm = await ReplicatedVm.enable(hosts, vms, options);
  return vm;
}

/** After its host's death; whoever reads the disks of the VM that is off is waited for. */
export async function startAgain(vms: VmHosts, where: HostName = 'a'): Promise<void> {
  const started = async () => {
    try {
      await vms.hypervisors[where].start(VM);
      return true;
    } catch (error) {
      if (error instanceof Failure && error.code === 'busy') return false;
      throw error;
    }
  };
  await until(started, { timeoutMs: 10_000, onTimeout: () => new Error('the disks stay in use') });
}

/** The VM runs there and only there, with what it wrote, and is replicated to the other host. */
export async function checkRuns(vm: ReplicatedVm, where: HostName): Promise<void> {
  assert.equal((await vm.vms.hypervisors[where].getVm(VM)).state, 'running');
  assert.equal((await vm.vms.hypervisors[other(where)].getVm(VM)).state, 'off');
  assert.equal(vm.record(where).role, 'primary');
  await vm.checkGuest(where);
}

/** Host a dies with its VM: no daemon, no link. */
export async function killA(vm: ReplicatedVm): Promise<void> {
  vm.hosts.cut = true;
  await vm.hosts.a.services.primaries.stop(vm.id);
  await vm.vms.machines.a.crash(VM);
}

/** Host a is back: its daemon looks where it stands. */
export async function reviveA(vm: ReplicatedVm): Promise<void> {
  vm.hosts.cut = false;
  vm.hosts.a.services.primaries.start(vm.id);
}

/** Without contact, while the VM runs on host a: the guard of these tests, which allows no second runner, looks away. */
export async function failOverBesides(vm: ReplicatedVm): Promise<void> {
  const running = vm.vms.machines.a.runningVm(VM);
  running.paused = true;
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  running.paused = false;
}

/** Relays outlive the daemon; those of a test that failed end with it. */
async function endRelays(directory: string): Promise<void> {
  for (const name of ['a', 'b']) {
    const tests = join(directory, name, 'run', 'tests');
    for (const id of await readdir(tests)) await endRelay(join(tests, id));
  }
}
