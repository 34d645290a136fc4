import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, test, type TestContext } from 'node:test';
import { newSeed, seeded } from './replica-primary.ts';
import { ReplicatedVm } from './replicated-vm.ts';
import { TwoHosts } from './two-hosts.ts';
import { DISKS, VM, VmHosts } from './vm-hosts.ts';

let vms: VmHosts | undefined;
let hosts: TwoHosts | undefined;

afterEach(async () => {
  await hosts?.close();
  await vms?.dispose();
  hosts = vms = undefined;
});

/** Replication of a running guest that has written already. */
async function start(t: TestContext, options: { history?: number; changes?: number } = {}): Promise<ReplicatedVm> {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  vms = await VmHosts.make(seeded(seed));
  hosts = await TwoHosts.open(vms.directory, vms.hypervisors);
  await vms.hypervisors.a.start(VM);
  await vms.change('a', options.changes ?? 30);
  return await ReplicatedVm.enable(hosts, vms, options);
}

void test('each recovery point holds what the disks held at its instant, however the guest writes', async (t) => {
  const vm = await start(t);
  // The initial copy is fuzzy: the guest writes while it runs.
  for (let i = 0; i < 10; i++) await vm.vms.change('a', 3);
  await vm.replicated('a');
  for (let i = 0; i < 12; i++) {
    for (let burst = vm.vms.guest.below(3); burst >= 0; burst--) await vm.vms.change('a', 1 + vm.vms.guest.below(12));
    await vm.replicated('a');
  }
  assert.ok((await vm.checkAllPoints('b')) >= 12);
  assert.equal(vm.count('a', 'comparing'), 0);
  assert.equal(vm.count('a', 'trouble'), 0);
});
