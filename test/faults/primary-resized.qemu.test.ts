/** Disks of a VM that are made shorter or written, and a VM that is shut down, just when nobody looks. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { Failure } from '../../src/model/failure.ts';
import { imageInfo, resizeImage } from '../../src/qemu/image.ts';
import { flipStoredAt } from './corruption.ts';
import { startAgain, startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { carryOut } from './two-hosts-process.ts';
import { DISKS, VM } from './vm-hosts.ts';

const MIB = 1024 * 1024;
const [{ size: SIZE }] = DISKS as [(typeof DISKS)[number]];

/** Two points, and data at the end of the first disk. */
async function withTail(t: Parameters<typeof startReplication>[0]): Promise<ReplicatedVm> {
  const vm = await startReplication(t, { changes: 10 });
  await vm.replicated('a');
  const { guest, machines } = vm.vms;
  await guest.scatter(machines.a.writableSocket(VM), [3 * MIB], MIB, randomBytes(MIB));
  await vm.replicated('a');
  return vm;
}

/** While the VM is off. What the guest finds beyond the old end is zeros. */
async function resize(vm: ReplicatedVm, size: number): Promise<void> {
  const { guest } = vm.vms;
  await resizeImage(vm.record('a').disks[0]!.path, size);
  const before = guest.bytes[0]!;
  guest.bytes[0] = Buffer.alloc(size);
  before.copy(guest.bytes[0]);
}

void test('a disk that is made shorter, and as long as before again, is zeros there at the replica, too', async (t) => {
  const vm = await withTail(t);
  const { hypervisors } = vm.vms;
  const { a } = hypervisors;
  await a.shutdown(VM, 0);
  const openPoint = a.openPoint.bind(a);
  a.openPoint = () => Promise.reject(new Failure('job-conflict', 'another program makes a backup'));
  await resize(vm, 2 * MIB);
  await vm.wait('seen', () => vm.record('a').disks[0]!.size === 2 * MIB);
  await vm.wait('in the way', () => vm.record('a').failure?.code === 'job-conflict');
  await resize(vm, SIZE);
  a.openPoint = openPoint;
  await vm.replicated('a');
  assert.equal(vm.record('a').disks[0]!.size, SIZE);
  assert.ok((await vm.checkAllPoints('b')) >= 3);
});

void test('what is changed at a VM that is off while the replica is told that nothing has changed is seen by the next cycle', async (t) => {
  const vm = await withTail(t);
  await vm.vms.hypervisors.a.shutdown(VM, 0);
  const { path } = vm.record('a').disks[0]!;
  let resized = false;
  // Whoever works on the disks of a VM that is off: qemu-img, guestfish.
  vm.hosts.a.link.chooser = (call) => {
    if (call === 'confirm' && !resized) {
      resized = true;
      execFileSync('qemu-img', ['resize', '-q', '--shrink', '-f', 'qcow2', path, String(2 * MIB)]);
    }
    return undefined;
  };
  await vm.wait('resized', () => resized);
  vm.vms.guest.bytes[0] = vm.vms.guest.bytes[0]!.subarray(0, 2 * MIB);
  await vm.wait('seen', () => vm.record('a').disks[0]!.size === 2 * MIB);
  await vm.replicated('a');
});

void test('what a guest writes and is shut down, behind the point that had nothing new, is seen by the next cycle', async (t) => {
  const vm = await withTail(t);
  const { a } = vm.vms.hypervisors;
  const dropBitmap = a.dropBitmap.bind(a);
  let off = false;
  a.dropBitmap = async (...about) => {
    a.dropBitmap = dropBitmap;
    await vm.vms.change('a', 5);
    await a.shutdown(VM, 0);
    off = true;
    await dropBitmap(...about);
  };
  await vm.wait('off', () => off);
  await vm.replicated('a');
});

void test('damage that lies beyond the end of a disk that is made shorter keeps nothing from going on', async (t) => {
  const vm = await withTail(t);
  const { primaries } = vm.hosts.a.services;
  const replica = vm.hosts.b.services.replicas.get(vm.id);
  await primaries.stop(vm.id);
  await flipStoredAt(vm.record('b').disks[0]!.path, 3 * MIB + 100, 2);
  await vm.hosts.b.ask('replicationScrub', { ref: vm.id });
  await vm.wait('found', () => vm.count('b', 'replica-damaged') === 1);
  assert.equal(replica.status().damage?.length, 1);
  await vm.vms.hypervisors.a.shutdown(VM, 0);
  await resize(vm, 2 * MIB);
  primaries.start(vm.id);
  await vm.replicated('a');
  assert.equal(replica.status().damage, undefined, 'nothing is left to be sent');
  await startAgain(vm.vms);
  await vm.vms.change('a', 3);
  await vm.replicated('a');
  assert.equal(vm.record('a').failure, null);
  assert.equal(vm.record('a').verification?.repairs.length ?? 0, 0);
  // The older one has the damaged bytes.
  assert.ok(replica.unsound.size >= 1 && !replica.unsound.has(replica.points()[0]!.sequence));
});

void test('a former primary whose disk was resized after its last cycle becomes the Replica server all the same', async (t) => {
  const vm = await withTail(t);
  const { services } = vm.hosts.a;
  vm.hosts.cut = true;
  await services.primaries.stop(vm.id);
  await vm.vms.hypervisors.a.shutdown(VM, 0);
  await resizeImage(vm.record('a').disks[0]!.path, SIZE + MIB);
  await carryOut(vm.hosts, vm.id, { kind: 'unplanned-failover', on: 'b' });
  vm.hosts.cut = false;
  services.primaries.start(vm.id);
  await vm.wait('stepped down', () => vm.count('a', 'stepped-down') > 0);
  await carryOut(vm.hosts, vm.id, { kind: 'reverse-replication', on: 'b' });
  await vm.vms.change('b', 3);
  await vm.replicated('b');
  const replica = vm.hosts.a.services.replicas.get(vm.id);
  assert.deepEqual([replica.disks[0]!.size, vm.record('a').disks[0]!.size], [SIZE, SIZE]);
  const { size } = await imageInfo(replica.disks[0]!.path, { format: 'qcow2', inUse: true });
  assert.equal(size, SIZE);
});
