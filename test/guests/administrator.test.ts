/**
 * An administrator goes on using virsh beside us: snapshots, block jobs, saving, resetting, undefining. Replication goes on by itself,
 * without a copy where what has changed stays known.
 */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { until } from '../../src/lib/clock.ts';
import { assertByteEqual } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, look, protectedNow } from '../system/two-hosts.ts';

/** A job of ours may be open just then: it is a matter of moments. */
const TRIES_MS = 60_000;

const stage = stages();
let hosts: TwoHosts;

before(async () => {
  hosts = await TwoHosts.create('guest-administrator.test');
  await hosts.replicate();
  await protectedNow(hosts.a);
});
after(() => hosts?.[Symbol.asyncDispose]());

const virsh = (...words: string[]) => hosts.a.host.virsh(...words);

/** What an administrator does; again if libvirt was busy with one of our jobs. */
async function asAdministrator(...words: string[]): Promise<void> {
  let said = '';
  const done = async () =>
    await virsh(...words).then(
      () => true,
      (error: unknown) => {
        said = String(error);
        return false;
      },
    );
  await until(done, {
    timeoutMs: TRIES_MS,
    everyMs: 500,
    onTimeout: () => new Error(`virsh ${words.join(' ')}: ${said}`),
  });
}

/** What the guest has done since is at the replica, which is equal, and nothing had to be compared for that. */
async function goesOn(): Promise<void> {
  const { a, b, scratch } = hosts;
  await protectedNow(a);
  await assertByteEqual(a, b, scratch);
  const { state, health, healthReasons } = await look(a);
  assert.deepEqual({ state, health, healthReasons }, { state: 'Replicating', health: 'normal', healthReasons: [] });
  const events = await eventsOf(a);
  assert.deepEqual(
    events.filter((event) => event.startsWith('comparing:')),
    [],
  );
}

stage('an external snapshot, while it is there and once it is committed', async () => {
  await asAdministrator('snapshot-create-as', VM, 'external', '--disk-only', '--atomic');
  await goesOn();
  for (const disk of ['vda', 'vdb']) await asAdministrator('blockcommit', VM, disk, '--active', '--pivot', '--wait');
  await goesOn();
  await virsh('snapshot-delete', VM, 'external', '--metadata');
});

stage('a disk that is copied to another file, and goes on there', async () => {
  const path = '/var/lib/libvirt/images/moved-vda.qcow2';
  const copy = ['blockcopy', VM, 'vda', '--dest', path, '--format', 'qcow2', '--transient-job', '--pivot', '--wait'];
  await asAdministrator(...copy);
  await goesOn();
  assert.equal((await look(hosts.a)).disks.find(({ target }) => target === 'vda')?.path, path);
});

stage('a guest that is reset, or saved and restored', async () => {
  await virsh('reset', VM);
  await hosts.guest.agent.wait();
  await goesOn();
  await asAdministrator('managedsave', VM);
  await protectedNow(hosts.a);
  await asAdministrator('start', VM);
  await goesOn();
});

stage('a definition that is removed while the guest runs, and comes back', async () => {
  const xml = await virsh('dumpxml', VM);
  await asAdministrator('undefine', VM);
  await protectedNow(hosts.a);
  await hosts.a.host.define(xml);
  await goesOn();
});
