/** Blocks of a log that are the same travel once: from one host to the other, over any link. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { startReplication } from './primary-world.ts';
import { VM } from './vm-hosts.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const CLUSTER = 64 * KIB;
const at = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => (from + i) * CLUSTER);

void test('a cluster that a guest writes to many places is sent once, over a fast link and over a slow one', async (t) => {
  const vm = await startReplication(t, { changes: 3 });
  await vm.replicated('a');
  const socket = vm.vms.machines.a.writableSocket(VM);
  const { guest } = vm.vms;
  await guest.overwrite(socket, 4 * MIB);
  await vm.replicated('a');
  const sent = async (): Promise<number> => {
    const before = vm.record('a').statistics;
    await vm.replicated('a');
    const { sentBytes, changedBytes } = vm.record('a').statistics;
    assert.ok(changedBytes - before.changedBytes >= 40 * CLUSTER, 'they count as changed');
    return sentBytes - before.sentBytes;
  };

  await guest.scatter(socket, at(3, 40), CLUSTER, randomBytes(CLUSTER));
  const fast = await sent();
  assert.ok(fast < 4 * CLUSTER, `${fast} bytes for 40 clusters`);
  assert.equal(vm.hosts.a.link.questions, 0);

  vm.hosts.a.link.bytesPerSecond = MIB;
  await vm.believeLink('a', MIB);
  // Single pages make it worth asking; the clusters are new, in each of their pages.
  await guest.scatter(socket, at(0, 30), 4 * KIB);
  await guest.scatter(socket, at(32, 30), CLUSTER, randomBytes(CLUSTER));
  vm.hosts.a.services.primaries.start(vm.id);
  const slow = await sent();
  assert.ok(vm.hosts.a.link.questions > 0);
  assert.ok(slow < 30 * 4 * KIB + 4 * CLUSTER, `${slow} bytes for 30 pages and 30 clusters`);
  await vm.checkAllPoints('b');
});
