/** A comparison that a person asks for believes nothing that either side remembers, and no log that is under way replaces it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { after } from '../../src/model/state.ts';
import { closeImageDigests, openImageDigests } from '../../src/replica/image-digests.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { TwoHosts } from './two-hosts.ts';
import { DISKS, VM_NAME } from './vm-hosts.ts';

/**
 * Somebody writes to the replica's first disk while both daemons are off, and leaves no trace of it in the digest file. They are open
 * again then, and have not begun.
 */
async function tamper(vm: ReplicatedVm): Promise<void> {
  await vm.hosts.close();
  const replica = join(vm.vms.directory, 'b', 'replicas', vm.id);
  const [{ target, size }] = DISKS as [{ target: string; size: number }];
  const image = { path: join(replica, 'disks', `${target}.qcow2`), size };
  const digests = await openImageDigests(join(replica, 'digests', `${target}.digests`), image);
  await promisify(execFile)('qemu-io', ['-f', 'qcow2', '-c', 'write -P 119 64k 64k', image.path]);
  await closeImageDigests(digests, image);
  vm.hosts = await TwoHosts.open(vm.vms.directory, vm.vms.hypervisors);
}

/** How often the replica is asked for digests from now on. */
function countedDigests(vm: ReplicatedVm): { asked: number } {
  const counted = { asked: 0 };
  vm.hosts.a.link.chooser = (call) => {
    if (call === 'digests') counted.asked++;
    return undefined;
  };
  return counted;
}

void test('it finds a change of the replica’s disk of which no digest tells', async (t) => {
  const vm = await startReplication(t);
  const before = await vm.replicated('a');
  await tamper(vm);
  await vm.hosts.begin();
  await assert.rejects(vm.checkPoint('b', before), /point/);
  await vm.hosts.a.ask('replicationResync', { ref: VM_NAME });
  await vm.replicated('a');
});

void test('it is done also when a log was under way, which the replica has taken', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  const { link } = vm.hosts.a;
  link.chooser = (call) => (call === 'put' ? { call, when: 'after', code: 'unreachable' } : undefined);
  await vm.vms.change('a', 10);
  vm.hosts.a.services.primaries.loop(vm.id).wake();
  await vm.wait('the acknowledgement is lost', () => link.happened.length > 0);
  assert.notEqual(vm.record('a').inFlight?.makes ?? null, null);
  const counted = countedDigests(vm);
  await vm.hosts.a.ask('replicationResync', { ref: VM_NAME });
  await vm.replicated('a');
  assert.ok(counted.asked > 0, 'both sides were compared');
});

void test('it is begun again, believing nothing, when the daemon dies before it is noted', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  for (const crash of ['copy:untracked', 'copy:tracked']) {
    await tamper(vm);
    const { store } = vm.hosts.a.services;
    const asked = { reason: 'somebody asked for it', begin: 'at-once' } as const;
    store.putRelationship({
      ...vm.record('a'),
      ...after(vm.record('a'), 'resync-wanted'),
      resync: asked,
      bitmap: null,
    });
    await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
    await vm.replicated('a');
    await vm.checkBitmaps('a');
  }
});
