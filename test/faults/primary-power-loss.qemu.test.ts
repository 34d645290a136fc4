/** What a power loss leaves of a primary's outbox: it isn't synced, so that any of it may be missing. */
import assert from 'node:assert/strict';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { startAgain, startReplication } from './primary-world.ts';
import { TwoHosts } from './two-hosts.ts';
import { VM } from './vm-hosts.ts';

void test('a log in the outbox that lost its middle with the power is not waited for: both sides are compared', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  // The link breaks with the log: broken before, the replica would be asked where it stands first, and nothing read.
  const { link } = vm.host('a');
  const choose = link.chooser;
  link.chooser = (call) => {
    if (call !== 'durableOffset' && call !== 'put') return choose(call);
    vm.hosts.cut = true;
    return { call, when: 'before', code: 'unreachable' };
  };
  await vm.vms.change('a', 20);
  vm.host('a').services.primaries.loop(vm.id).wake();
  await vm.wait('a whole log in the outbox', () => (vm.record('a').inFlight?.makes ?? null) !== null);
  await vm.vms.machines.a.crash(VM);
  await vm.hosts.close();
  const outbox = join(vm.vms.directory, 'a', 'outbox', vm.id);
  const [name] = await readdir(outbox);
  const file = await open(join(outbox, name!), 'r+');
  const { size } = await file.stat();
  const lost = Buffer.alloc(size >> 1);
  await file.write(lost, 0, lost.length, size >> 2);
  await file.close();
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
  await vm.hosts.begin();
  await startAgain(vm.vms);
  await vm.replicated('a');
  assert.ok((await vm.checkAllPoints('b')) >= 2);
});
