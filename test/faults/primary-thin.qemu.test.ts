/** Logs that are made thinner before they are sent: from one host to the other, over a link that is scarce, or breaks. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { digest } from '../../src/lib/digest.ts';
import { DIGEST_BLOCK } from '../../src/protocol/endpoint.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { DISKS, VM } from './vm-hosts.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const PAGE = 4 * KIB;
const CLUSTER = 64 * KIB;
/** One page of each cluster of the first disk but some. */
const PLACES = Array.from({ length: 60 }, (_, i) => i * CLUSTER + (i % 16) * PAGE);
/** Bytes per second: a log of whole clusters takes minutes. */
const SCARCE = 20 * KIB;

async function scatter(vm: ReplicatedVm, places = PLACES, length = PAGE): Promise<void> {
  await vm.vms.guest.scatter(vm.vms.machines.a.writableSocket(VM), places, length);
}

/** A replicated VM whose first disk has no hole. */
async function filled(t: Parameters<typeof startReplication>[0]): Promise<ReplicatedVm> {
  const vm = await startReplication(t, { changes: 3 });
  await vm.replicated('a'); // what follows is one log, not many slices
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 4 * MIB);
  await vm.replicated('a');
  return vm;
}

/** Bytes of logs that were sent by what `work` does. */
async function sentBy(vm: ReplicatedVm, work: () => Promise<unknown>): Promise<number> {
  const before = vm.record('a').statistics.sentBytes;
  await work();
  return vm.record('a').statistics.sentBytes - before;
}

void test('over a slow link only the pages that a guest has written travel', async (t) => {
  const vm = await filled(t);
  const { link } = vm.hosts.a;
  const fast = await sentBy(vm, async () => {
    await scatter(vm);
    await vm.replicated('a');
  });
  assert.ok(fast >= PLACES.length * CLUSTER, 'over a fast link clusters go as they are');
  assert.equal(link.questions, 0);
  // What the link is like it learns from a log that goes over it.
  link.bytesPerSecond = MIB;
  await vm.vms.guest.overwrite(vm.vms.machines.a.writableSocket(VM), 2 * MIB);
  await vm.replicated('a');
  const { linkSpeed } = vm.record('a').statistics;
  assert.ok(linkSpeed !== null && linkSpeed < 40 * MIB, `${linkSpeed} bytes per second`);
  await vm.believeLink('a', MIB);
  const slow = await sentBy(vm, async () => {
    await scatter(vm);
    vm.hosts.a.services.primaries.start(vm.id);
    await vm.replicated('a');
  });
  assert.ok(link.questions > 0);
  assert.ok(slow <= 0.2 * fast, `${slow} bytes instead of ${fast}`);
  assert.ok(vm.record('a').statistics.savedBytes >= fast - slow - MIB / 4);
  // Of blocks that a log holds in part the replica knows the digest, too.
  const blocks = Math.ceil(DISKS[0]!.size / DIGEST_BLOCK);
  const wanted = Array.from({ length: blocks }, (_, block) =>
    digest(vm.vms.guest.bytes[0]!.subarray(block * DIGEST_BLOCK, (block + 1) * DIGEST_BLOCK)),
  );
  const known = await vm.hosts.b.services.replicas
    .get(vm.id)
    .questions.digests({ target: DISKS[0]!.target, from: 0, count: blocks });
  assert.ok(Buffer.concat(wanted).equals(known));
  // And on, thinner or not.
  await vm.vms.change('a', 8);
  await vm.replicated('a');
  await vm.checkAllPoints('b');
  assert.deepEqual(await readdir(join(vm.vms.directory, 'a', 'outbox', vm.id)).catch(() => []), []);
});

void test('questions and acknowledgements that get lost are repeated, and change nothing', async (t) => {
  const vm = await filled(t);
  const { link } = vm.hosts.a;
  for (const call of ['pageDigests', 'put'] as const) {
    for (const when of ['before', 'after'] as const) {
      await vm.believeLink('a', SCARCE);
      await scatter(vm);
      link.once({ call, when, code: 'interrupted' });
      const { savedBytes } = vm.record('a').statistics;
      const sent = await sentBy(vm, async () => {
        vm.hosts.a.services.primaries.start(vm.id);
        await vm.replicated('a');
      });
      assert.ok(vm.record('a').statistics.savedBytes > savedBytes + 0.8 * PLACES.length * CLUSTER);
      assert.ok(sent <= 0.4 * PLACES.length * CLUSTER, `${call} ${when}: ${sent} bytes`);
    }
  }
  assert.equal(link.happened.length, 4);
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('a replica that does not answer gets the clusters, and one that does not know the question is asked once', async (t) => {
  const vm = await filled(t);
  const { link } = vm.hosts.a;
  for (const code of ['busy', 'not-found', 'not-found'] as const) {
    await vm.believeLink('a', SCARCE);
    await scatter(vm);
    const asked = link.questions;
    link.once({ call: 'pageDigests', when: 'before', code });
    const sent = await sentBy(vm, async () => {
      vm.hosts.a.services.primaries.start(vm.id);
      await vm.replicated('a');
    });
    assert.ok(sent >= PLACES.length * CLUSTER, `${code}: ${sent} bytes`);
    assert.ok(link.questions <= asked + 1);
  }
  assert.equal(link.questions, 2);
  await vm.checkAllPoints('b');
});

void test('what a comparison finds, and what is caught up with in slices, goes thinner, too', async (t) => {
  const vm = await filled(t);
  await vm.vms.machines.a.crash(VM);
  await vm.vms.hypervisors.a.start(VM);
  await vm.believeLink('a', SCARCE / 10);
  await scatter(vm);
  const sent = await sentBy(vm, async () => {
    vm.hosts.a.services.primaries.start(vm.id);
    await vm.replicated('a');
  });
  assert.equal(vm.count('a', 'comparing'), 1);
  assert.ok(vm.hosts.a.link.questions > 0);
  assert.ok(sent <= 0.5 * PLACES.length * CLUSTER, `${sent} bytes`);
  await vm.checkAllPoints('b');
});
