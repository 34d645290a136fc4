/**
 * kill -9 of everything that takes part in replication, at every named step and at random moments: the relationship goes
 * on by itself, by what its bitmap recorded, and both sides end byte-equal. Same guest all the time.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before } from 'node:test';
import fc from 'fast-check';
import type { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { sleep, until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { assertByteEqual } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, hurry, look, protectedNow } from '../system/two-hosts.ts';

const MIB = 1024 * 1024;
const FILLER_MIB = 24;
/** In the order in which a copy, and then a cycle, comes to them. */
const COPY_STEPS = ['copy:tracked', 'slice:opened', 'slice:acknowledged'];
const CYCLE_STEPS = [
  'cycle:intended',
  'cycle:opened',
  'cycle:reading',
  'cycle:read',
  'cycle:closed',
  'cycle:acknowledged',
  'acknowledged:stored',
  'acknowledged:dropped',
];
/** Steps at which libvirt's backup job is open. */
const JOB_STEPS = new Set(['slice:opened', 'cycle:opened', 'cycle:reading', 'cycle:read']);
/** Where a crash leaves the most behind; `replica-crash` has all steps, without a guest. */
const REPLICA_STEPS = [
  'replica:acknowledged',
  'replica:undo-final',
  'replica:writing',
  'replica:flushed',
  'replica:retired',
];
/** So few that each cycle retires one. */
const HISTORY = 3;
/** So little that it is no copy, however slow the machine. */
const REWRITE_KIB = 64;
const LONGEST_DELAY_MS = 1500;
const RANDOM_KILLS = 4;

const stage = stages();
let hosts: TwoHosts;

before(async () => {
  hosts = await TwoHosts.create('guest-daemon-kills.test', {
    guest: { vda: { sizeMiB: 64, fillerMiB: FILLER_MIB }, rewriteKiB: REWRITE_KIB },
    config: { slice: { bytes: 4 * MIB } },
  });
});
after(() => hosts?.[Symbol.asyncDispose]());

const job = (daemon: HostDaemon) => daemon.host.virsh('domjobinfo', VM);

/** Replication goes on by itself: what the guest has done by now is at the replica, and it took no copy. */
async function goesOn(): Promise<void> {
  const { a } = hosts;
  const next = protectedNow(a);
  await hurry(a);
  const { statistics, state } = await next;
  assert.equal(state, 'Replicating');
  assert.ok(statistics.lastSentBytes < FILLER_MIB * MIB, `${statistics.lastSentBytes} bytes in one cycle`);
  await assertNoCopy();
}

/** So much that a cycle lasts long enough to be hit, and less than a copy. */
async function writeMuch(): Promise<void> {
  const write = `dd if=/dev/urandom of=/vdb/much bs=1M count=${FILLER_MIB / 2 - 2} conv=notrunc,fsync`;
  const { code, stderr } = await hosts.guest.agent.exec(['/bin/sh', '-c', write]);
  assert.equal(code, 0, stderr);
}

async function assertNoCopy(): Promise<void> {
  const comparisons = (await eventsOf(hosts.a)).filter((event) => event.startsWith('comparing:'));
  assert.deepEqual(comparisons, []);
}

stage("the primary's daemon dies at each step of the initial copy", async () => {
  const { a } = hosts;
  await a.kill();
  const [first, ...others] = COPY_STEPS;
  const death = a.startToDieAt(first!);
  await until(() => a.answers(), { timeoutMs: 20_000, onTimeout: () => new Error(a.lastWords()) });
  await hosts.enable().catch(() => undefined); // it dies in the middle of it, before or after its answer
  await death;
  for (const step of others) {
    await a.startToDieAt(step);
    if (JOB_STEPS.has(step)) assert.match(await job(a), /Backup/, 'a job is left over');
  }
  await a.start();
  const { statistics } = await a.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating');
  assert.ok(statistics.sentBytes < 1.5 * FILLER_MIB * MIB, `${statistics.sentBytes} bytes sent`);
  await goesOn();
});

stage("the primary's daemon dies at each step of a cycle", async () => {
  const { a } = hosts;
  for (const step of CYCLE_STEPS) {
    await a.kill();
    await a.startToDieAt(step);
    if (JOB_STEPS.has(step)) assert.match(await job(a), /Backup/, 'a job is left over');
    await a.start();
    await goesOn();
    await until(async () => /Job type:\s+None/.test(await job(a)), {
      timeoutMs: 10_000,
      onTimeout: () => new Error(`after ${step} a job stays open`),
    });
  }
});

stage('a clean restart of the primary takes replication up again', async () => {
  const { a } = hosts;
  const { sequence } = (await look(a)).position;
  await a.stop();
  await a.start();
  await goesOn();
  assert.ok((await look(a)).position.sequence > sequence);
});

stage("the Replica server's daemon dies at each step of receiving and applying", async () => {
  const { a, b } = hosts;
  await a.client.call('replicationSet', { ref: VM, history: HISTORY });
  for (let cycle = 0; cycle <= HISTORY; cycle++) await goesOn();
  for (const step of REPLICA_STEPS) {
    await b.kill();
    let died = false;
    const death = b.startToDieAt(step).finally(() => (died = true));
    // A cycle that is due may kill it before anybody has heard it.
    await until(async () => died || (await b.answers()), {
      timeoutMs: 20_000,
      onTimeout: () => new Error(b.lastWords()),
    });
    await hurry(a).catch((error: unknown) => {
      // a cycle that was due anyway may have killed it first
      assert.ok(error instanceof Failure && ['interrupted', 'unreachable'].includes(error.code), String(error));
    });
    await death;
    await b.start();
    await goesOn();
  }
});

stage('either daemon dies at random moments', async () => {
  const { a, b } = hosts;
  await hosts.guest.setWorkload({ rate: 5, rewriteKiB: 1024 });
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`SEED=${seed}`);
  const moments = fc.sample(fc.record({ dies: fc.constantFrom(a, b), afterMs: fc.nat(LONGEST_DELAY_MS) }), {
    seed,
    numRuns: RANDOM_KILLS,
  });
  for (const { dies, afterMs } of moments) {
    await hurry(a);
    await sleep(afterMs);
    await dies.kill();
    await dies.start();
    await goesOn();
  }
});

stage("the replica's qemu-storage-daemon dies while it applies", async () => {
  const { a, b } = hosts;
  const { id } = await look(b);
  const inbox = `/var/lib/understudy/replicas/${id}/inbox`;
  const run = `/run/understudy/replicas/${id}`;
  const script = [
    `until ls ${inbox}/*.log >/dev/null 2>&1; do :; done`,
    `kill -9 "$(sed -n 's/.*"pid":\\([0-9]*\\).*/\\1/p' ${run}/*.pid)"`,
  ].join('; ');
  const failures = () => readFileSync(b.logFile, 'utf8').split('could not be applied').length;
  const before = failures();
  // whether it is hit in the middle of applying is seen afterwards; a large log makes it likely
  for (let tries = 0; failures() === before; tries++) {
    assert.ok(tries < 5, 'it was never applying when it died');
    await writeMuch();
    const killed = b.host.succeed(['sh', '-c', script]);
    await hurry(a);
    await killed;
    await goesOn();
  }
});

stage('libvirtd dies in the middle of a cycle', async () => {
  const { a, guest } = hosts;
  await writeMuch();
  const script = `until virsh -q -c qemu:///system domjobinfo ${VM} | grep -q Backup; do :; done; read -r pid </run/libvirt/libvirtd.pid; kill -9 "$pid"; while kill -0 "$pid" 2>/dev/null; do :; done`;
  const killed = a.host.succeed(['sh', '-c', script]);
  await hurry(a);
  await killed;
  await a.host.startLibvirtd();
  await goesOn();
  assert.equal(await guest.state(), 'running');
});

stage('and both sides are byte-equal', async () => {
  const { a, b, guest, scratch } = hosts;
  await guest.setWorkload({ rate: 5, rewriteKiB: REWRITE_KIB });
  await assertByteEqual(a, b, scratch);
  await assertNoCopy();
});
