/**
 * `virsh snapshot-revert` of a protected VM: QEMU refuses it because of our change bitmap, and libvirt leaves the VM off. It is out of the
 * way at once, and said; the second try works, both sides are compared, and recovery points from before stay.
 */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { until } from '../../src/lib/clock.ts';
import { assertByteEqual, contentOf, pointsOf } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, look, protectedNow } from '../system/two-hosts.ts';

/** Whatever has to be waited for: a job of ours that is just open, an answer in words. */
const PATIENCE_MS = 60_000;

const stage = stages();
let hosts: TwoHosts;
let early: { readonly sequence: number; readonly content: Record<string, string> };

before(async () => {
  hosts = await TwoHosts.create('guest-revert.test');
  await hosts.replicate();
  await protectedNow(hosts.a);
});
after(() => hosts?.[Symbol.asyncDispose]());

const virsh = (...words: string[]) => hosts.a.host.virsh(...words);

stage('a snapshot with memory is made, and replication goes on', async () => {
  const { a, b, scratch } = hosts;
  const made = () =>
    virsh('snapshot-create-as', VM, 'internal').then(
      () => true,
      () => false, // a job of ours was open
    );
  await until(made, { timeoutMs: PATIENCE_MS, everyMs: 500, onTimeout: () => new Error('no snapshot can be made') });
  await protectedNow(a);
  await assertByteEqual(a, b, scratch);
  const { sequence } = (await pointsOf(b))[0]!;
  early = { sequence, content: await contentOf(b, scratch, [sequence]) };
});

stage('the revert fails, and what stood in its way is gone at once: in words', async () => {
  const { a } = hosts;
  await assert.rejects(virsh('snapshot-revert', VM, 'internal'), /bitmap/i);
  assert.equal(await virsh('domstate', VM), 'shut off');
  await until(async () => (await eventsOf(a)).some((event) => event.startsWith('revert-cleared: ')), {
    timeoutMs: PATIENCE_MS,
    onTimeout: () => new Error(`nobody is told\n${a.lastWords()}`),
  });
  const { health, failure } = await look(a);
  assert.notEqual(health, 'normal');
  assert.match(failure?.message ?? '', /change bitmap that was in its way is removed/);
  assert.match(failure?.hint ?? '', /Revert again/);
});

stage('it works again, both sides are compared, and points from before stay', async () => {
  const { a, b, guest, scratch } = hosts;
  const { sentBytes } = (await look(a)).statistics;
  await virsh('snapshot-revert', VM, 'internal');
  await guest.agent.wait();
  await a.waitFor(VM, 'compared', ({ state, copy }) => state === 'Replicating' && copy === null, PATIENCE_MS);
  const { statistics, disks } = await protectedNow(a);
  const whole = disks.reduce((sum, { size }) => sum + size, 0);
  assert.ok(statistics.sentBytes - sentBytes < whole / 2, `${statistics.sentBytes - sentBytes} bytes: no copy`);
  await assertByteEqual(a, b, scratch);
  const compared = (await eventsOf(a)).filter((event) => event.startsWith('comparing:'));
  assert.equal(compared.length, 1);
  assert.deepEqual(await contentOf(b, scratch, [early.sequence]), early.content);
});
