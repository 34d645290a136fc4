/**
 * kill -9 of QEMU, of libvirtd, of a daemon, and of whole hosts, one after the other at random moments: after each the relationship is back by
 * itself, no recovery point is lost, and the guest's records are whole. ROUNDS (30) and SEED choose another campaign.
 */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import fc from 'fast-check';
import { sleep, until } from '../../src/lib/clock.ts';
import { assertByteEqual, contentOf, pointsOf } from '../system/equality.ts';
import { assertRecordsGood } from '../system/records-inside.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, hurry, protectedNow } from '../system/two-hosts.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 30);
const LONGEST_DELAY_MS = 3000;
/** A host that comes back, its guest that boots, a comparison. */
const PATIENCE_MS = 120_000;
/** All bytes are compared so often; in between what two points hold. */
const COMPARED_EVERY = 6;

const stage = stages();
let hosts: TwoHosts;

before(async () => {
  hosts = await TwoHosts.create('host-kills.test', { guest: { rewriteKiB: 512 } });
  await hosts.replicate();
  await hosts.a.client.call('replicationSet', { ref: VM, history: 200 }); // none is retired meanwhile
});
after(() => hosts?.[Symbol.asyncDispose]());

/** The guest runs and answers. */
async function up(): Promise<void> {
  const { guest } = hosts;
  await until(async () => (await guest.state()) === 'running', {
    timeoutMs: PATIENCE_MS,
    onTimeout: () => new Error(`the guest does not run\n${hosts.a.lastWords()}`),
  });
  await guest.agent.wait();
}

const KILLS: Readonly<Record<string, () => Promise<void>>> = {
  /** A person, or a cluster, starts the VM again. */
  QEMU: async () => {
    const { a, guest } = hosts;
    await a.host.succeed(['sh', '-c', `kill -9 "$(cat /run/libvirt/qemu/${VM}.pid)"`]);
    await until(async () => (await guest.state()) === 'shut off', {
      timeoutMs: 30_000,
      onTimeout: () => new Error('libvirtd has not noticed'),
    });
    await guest.start();
  },
  'libvirtd of the primary': async () => {
    await hosts.a.host.stopLibvirtd('SIGKILL');
    await hosts.a.host.startLibvirtd();
  },
  'libvirtd of the Replica server': async () => {
    await hosts.b.host.stopLibvirtd('SIGKILL');
    await hosts.b.host.startLibvirtd();
  },
  "the primary's daemon": async () => {
    await hosts.a.kill();
    await hosts.a.start();
  },
  "the Replica server's daemon": async () => {
    await hosts.b.kill();
    await hosts.b.start();
  },
  'the primary server': async () => {
    await hosts.a.host.crash();
    await hosts.a.host.start();
    await hosts.a.start(); // which starts the guest, once the peer has said that it may
  },
  'the Replica server': async () => {
    await hosts.b.host.crash();
    await hosts.b.host.start();
    await hosts.b.start();
  },
};

stage(`${ROUNDS} kills: nothing is lost, and all goes on`, async () => {
  const { a, b, guest, scratch } = hosts;
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`SEED=${seed} ROUNDS=${ROUNDS}`);
  const rounds = fc.sample(
    fc.record({ dies: fc.constantFrom(...Object.keys(KILLS)), afterMs: fc.nat(LONGEST_DELAY_MS) }),
    {
      seed,
      numRuns: ROUNDS,
    },
  );
  for (const [round, { dies, afterMs }] of rounds.entries()) {
    const kept = (await pointsOf(b)).slice(0, 2).map(({ sequence }) => sequence);
    const held = await contentOf(b, scratch, kept);
    await hurry(a);
    await sleep(afterMs);
    const began = performance.now();
    await KILLS[dies]!();
    await up();
    await a.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating', PATIENCE_MS);
    await protectedNow(a, PATIENCE_MS);
    await a.waitFor(VM, 'healthy', ({ health }) => health === 'normal', PATIENCE_MS);
    console.log(
      `${round + 1}. ${dies} after ${afterMs} ms: back in ${((performance.now() - began) / 1000).toFixed(1)} s`,
    );
    assert.deepEqual(await contentOf(b, scratch, kept), held, `after ${dies} older points hold something else`);
    assert.equal(await b.host.virsh('domstate', VM), 'shut off', 'two runners');
    await assertRecordsGood(guest);
    if (round % COMPARED_EVERY === COMPARED_EVERY - 1) await assertByteEqual(a, b, scratch);
  }
});

stage('and both sides are byte-equal, without a full copy on the way', async () => {
  const { a, b, scratch } = hosts;
  await assertByteEqual(a, b, scratch);
  const copies = (await eventsOf(a)).filter((event) => event.startsWith('initial-copy'));
  assert.ok(copies.length <= 2, copies.join('\n'));
});
