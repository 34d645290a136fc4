/**
 * An administrator goes on using virsh beside us: snapshots, block jobs, saving, resetting, undefining. Replication goes on by itself,
 * without a copy where what has changed stays known.
 */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import type { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { until } from '../../src/lib/clock.ts';
import { insist } from '../system/administrator.ts';
import { assertByteEqual } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, hurry, look, protectedNow } from '../system/two-hosts.ts';

/** A change of a definition is looked for every 30 s. */
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

/** What an administrator does. */
const asAdministrator = (...words: string[]) => insist(() => virsh(...words));

/** What the guest has done since is at the replica, which is equal, and nothing had to be compared for that. */
async function goesOn(): Promise<void> {
  const { a, b, scratch } = hosts;
  await protectedNow(a);
  await assertByteEqual(a, b, scratch);
  const { state, healthReasons } = await look(a);
  // A guest that boots without a processor of its own may be too slow for some cycles.
  const wrong = healthReasons.filter((reason) => !/cycles were missed/.test(reason));
  assert.deepEqual({ state, wrong }, { state: 'Replicating', wrong: [] });
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

stage("a definition that is changed is the Replica VM's, too, without its secrets", async () => {
  const { a, b } = hosts;
  const xml = (await virsh('dumpxml', VM, '--inactive', '--security-info'))
    .replace(/<memory .*<\/currentMemory>/s, "<memory unit='KiB'>229376</memory>")
    .replace('</devices>', "<graphics type='vnc' port='-1' passwd='sesame'/></devices>");
  await a.host.define(xml);
  await hurry(a);
  const replica = await follows(b, VM);
  assert.match(replica, /this-VM-is-a-replica/, 'it is locked as before');
  assert.match(replica, /<graphics type='vnc'[^>]* passwd=''/, 'nobody gets in');
  assert.match((await eventsOf(a)).join('\n'), /definition-changed: .*memory \d+ → 229376/);
  assert.match(await virsh('dumpxml', VM, '--inactive', '--security-info'), /passwd='sesame'/, 'it stays where it was');
  await b.act('testFailoverStart', { ref: VM });
  await follows(b, `${VM} - Test`);
  await b.act('testFailoverStop', { ref: VM });
  await goesOn();
});

/** The definition of a VM, once it has the memory that was set. */
async function follows({ host, client }: HostDaemon, vm: string): Promise<string> {
  let xml = '';
  const has = async () => {
    xml = await host.virsh('dumpxml', vm, '--inactive', '--security-info');
    return xml.includes("<memory unit='KiB'>229376</memory>");
  };
  const said = async () => (await client.call('eventList', { limit: 20 })).map(({ message }) => message).join('\n');
  const onTimeout = () => new Error(`${vm} on ${host.name} has not followed:\n${xml}`);
  await until(has, { timeoutMs: TRIES_MS, everyMs: 500, onTimeout }).catch(async (error: unknown) => {
    throw new Error(await said(), { cause: error });
  });
  return xml;
}
