/** The same on the libvirt and QEMU of the backports: on the Replica server alone, on the primary alone (after the failover), on both. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { backportsOrWhyNot } from '../../lab/hosts/backports.ts';
import { Failure } from '../../src/model/failure.ts';
import { assertByteEqual, pointsOf } from '../system/equality.ts';
import { assertRecordsGood } from '../system/records-inside.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, hurry, protectedNow } from '../system/two-hosts.ts';

const REVERSE_MS = 120_000;

const stage = stages();
let hosts: TwoHosts;

const newer = await backportsOrWhyNot();

after(() => hosts?.[Symbol.asyncDispose]());

async function versionsOf(host: 'a' | 'b'): Promise<string> {
  const { versions, remark } = (await hosts[host].client.call('daemonStatus', {})).libvirt;
  assert.equal(remark, null);
  return Object.entries(versions).join(' ');
}

/** Cycles, every byte compared, a test of a point, a planned failover with the roles turned round. */
async function acrossAndRound(from: 'a' | 'b', to: 'a' | 'b'): Promise<void> {
  const [primary, replica] = [hosts[from], hosts[to]];
  for (let cycle = 0; cycle < 3; cycle++) {
    await hurry(primary);
    await protectedNow(primary);
  }
  await assertByteEqual(primary, replica, hosts.scratch);
  assert.ok((await pointsOf(replica)).length >= 3);
  await replica.act('testFailoverStart', { ref: VM });
  assert.equal(await replica.host.virsh('domstate', `${VM} - Test`), 'running');
  await replica.act('testFailoverStop', { ref: VM });
  await primary.act('plannedFailover', { ref: VM, shutdownTimeoutSeconds: 60 });
  await replica.waitFor(
    VM,
    'replicating back',
    ({ role, state }) => role === 'primary' && state === 'Replicating',
    REVERSE_MS,
  );
  const guest = to === 'a' ? hosts.guest : hosts.guestOnB;
  await guest.agent.wait();
  await assertRecordsGood(guest);
}

if (newer instanceof Failure) test('libvirt and QEMU of the backports', { skip: newer.message }, () => undefined);
else allOn(newer);

function allOn(usr: string): void {
  stage('from this release to the newer one, and the roles turned round', async () => {
    hosts = await TwoHosts.create('newer-versions.test', { usr: { b: usr } });
    const [old, young] = [await versionsOf('a'), await versionsOf('b')];
    console.log(`a: ${old}; b: ${young}`);
    assert.notEqual(young, old, 'the backports hold nothing newer: this test shows nothing');
    await hosts.replicate();
    await acrossAndRound('a', 'b');
  });

  stage('and from the newer one home', async () => {
    await acrossAndRound('b', 'a');
    const { a, b, scratch } = hosts;
    await assertByteEqual(a, b, scratch);
  });

  stage('both newer', async () => {
    await hosts[Symbol.asyncDispose]();
    hosts = await TwoHosts.create('newest-versions.test', { usr: { a: usr, b: usr } });
    await hosts.replicate();
    await acrossAndRound('a', 'b');
    const { a, b, scratch } = hosts;
    await assertByteEqual(b, a, scratch);
  });
}
