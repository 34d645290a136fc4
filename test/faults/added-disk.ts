/** A VM that gets one more disk while it is protected. */
import assert from 'node:assert/strict';
import { startAgain } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { VM } from './vm-hosts.ts';

export const ALL_THREE = ['vda', 'vdb', 'vdc'];
export const ADDED = { target: 'vdc', size: 3 * 1024 * 1024 + 512 };

/** The running VM has one more disk, with data on it, of which it is said that no point has it. */
export async function withAdded(vm: ReplicatedVm): Promise<void> {
  const { hypervisors } = vm.vms;
  await vm.replicated('a');
  await hypervisors.a.shutdown(VM, 0);
  await vm.hosts.a.services.primaries.stop(vm.id); // nobody reads the images meanwhile
  await vm.vms.plug(ADDED);
  await startAgain(vm.vms);
  await vm.vms.change('a', 20);
  vm.hosts.a.services.primaries.start(vm.id);
  await vm.wait('told', () => vm.count('a', 'disk-unprotected') === 1);
  assert.deepEqual(vm.record('a').unprotected, [ADDED.target]);
}

export const include = (vm: ReplicatedVm) =>
  vm.hosts.a.ask('replicationSet', { ref: vm.id, includeDisks: [ADDED.target] });
export const targets = (vm: ReplicatedVm, where: 'a' | 'b') => vm.record(where).disks.map(({ target }) => target);
