/**
 * The main job, whole: a real guest is replicated between two hosts, fails over and comes home. The tests build on each
 * other: each begins where the one before ended.
 */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { LabGuest } from '../../lab/guest/guest.ts';
import type { Witness } from '../../lab/guest/witness.ts';
import { until } from '../../src/lib/clock.ts';
import { assertByteEqual, contentOf, pointsOf } from './equality.ts';
import { assertRecordsGood } from './records-inside.ts';
import { stages } from './stages.ts';
import { INTERVAL_SECONDS, TwoHosts, VM, eventsOf, look, protectedNow } from './two-hosts.ts';

const INTERVAL_MS = INTERVAL_SECONDS * 1000;
const TEST_VM = `${VM} - Test`;
const FILLER_MIB = 16;
/** A former primary that can be reached is no twin for longer than this. */
const STEP_DOWN_MS = 10_000;
/** Opening a point takes a moment: what the guest begins within this after the instant may be in it, or not. */
const OPENING_MS = 500;
const BOOT_MS = 90_000;

const stage = stages();
let hosts: TwoHosts;
/** What the guest writes on A, and what it (or a copy of it) writes on B. */
let onA: Witness;
let onB: Witness;
/** Blocks of 64 KiB on both disks. */
let allBlocks: number;

before(async () => {
  const vda = { sizeMiB: 64, fillerMiB: FILLER_MIB };
  hosts = await TwoHosts.create('replication.test', { guest: { vda, rate: 10 } });
  onA = hosts.guest.witness();
  onB = hosts.guestOnB.witness();
});
after(async () => {
  onA?.stop();
  onB?.stop();
  await hosts?.[Symbol.asyncDispose]();
});

function completed(witness: Witness): number {
  witness.poll();
  return witness.completed.at(-1)?.number ?? 0;
}

/**
 * Lets a guest come up. Gives the last record that it finds on its disks: it goes on with the next one.
 * @param comeUp resolves when it is being started, or later.
 */
async function foundAtBoot(guest: LabGuest, witness: Witness, comeUp: () => Promise<unknown>): Promise<number> {
  witness.poll();
  const begun = witness.begun.length;
  const done = witness.completed.length;
  await comeUp();
  await guest.agent.wait();
  const goesOn = () => {
    witness.poll();
    return witness.completed.length > done;
  };
  await until(goesOn, {
    timeoutMs: BOOT_MS,
    onTimeout: () => new Error(`${guest.name} on ${guest.host.name} writes no records`),
  });
  await assertRecordsGood(guest);
  return witness.begun[begun]!.number - 1;
}

/** Exactly what the guest did after the instant of a point is missing, and nothing from before it. */
function assertLoss(found: number, instant: number): void {
  const sure = onA.lastCompleteBefore(instant);
  assert.ok(found >= sure, `record ${sure} was complete at the point's instant, but only ${found} records are there`);
  const later = onA.firstBegunAfter(instant + OPENING_MS);
  assert.ok(later === undefined || found < later, `record ${later} was begun after the point, but ${found} are there`);
}

const guestsOn = async (host: 'a' | 'b') =>
  (await hosts[host].host.virsh('list', '--name')).split('\n').filter(Boolean);

stage('enabling is refused, and nothing set up, while QEMU can’t get to where points in time are opened', async () => {
  const { a, b } = hosts;
  const above = '/var/lib/libvirt';
  await a.host.succeed(['chmod', '700', above]);
  try {
    await assert.rejects(a.client.call('replicationEnable', { vm: VM, peer: 'b' }), {
      code: 'no-access',
      hint: /^`chmod o\+x \/var\/lib\/libvirt`/,
    });
  } finally {
    await a.host.succeed(['chmod', '755', above]);
  }
  for (const daemon of [a, b]) assert.deepEqual(await daemon.client.call('replicationList', {}), []);
});

stage('initial copy, then cycles: the replica is byte-equal', async () => {
  const { a, b, scratch } = hosts;
  const { statistics, disks } = await hosts.replicate();
  allBlocks = disks.reduce((sum, { size }) => sum + size / 65_536, 0);
  assert.ok(statistics.sentBytes > FILLER_MIB * 1024 * 1024, `the filler can't be compressed: ${statistics.sentBytes}`);
  await protectedNow(a);
  await protectedNow(a);
  const { state, health, healthReasons } = await look(a);
  assert.deepEqual({ state, health, healthReasons }, { state: 'Replicating', health: 'normal', healthReasons: [] });
  // acknowledged comes first, applied a moment later
  await until(async () => (await pointsOf(b)).length >= 3, {
    timeoutMs: 30_000,
    onTimeout: () => new Error(`fewer than three points\n${b.lastWords()}`),
  });
  await assertByteEqual(a, b, scratch);
  assert.equal(await hosts.guest.state(), 'running');
});

stage('QEMU runs as libvirt-qemu', async () => {
  const user = await hosts.a.host.succeed(['ps', '-C', 'qemu-system-x86_64', '-o', 'user:20=']);
  assert.equal(user.trim(), 'libvirt-qemu');
});

stage('the doctor finds nothing critical on either host, and says what it looked at', async () => {
  for (const daemon of [hosts.a, hosts.b]) {
    const { findings } = await daemon.client.call('doctor', {});
    const critical = findings.filter(({ severity }) => severity === 'critical');
    assert.deepEqual(critical, []);
    const good = findings.filter(({ severity }) => severity === 'ok').map(({ subject }) => subject);
    const peer = daemon === hosts.a ? 'b' : 'a';
    for (const subject of [
      'hypervisor',
      'rights: points in time',
      'rights: replicas',
      `peer ${peer}: port`,
      `peer ${peer}: clock`,
    ])
      assert.ok(good.includes(subject), `${subject}: ${JSON.stringify(findings)}`);
    assert.equal(good.includes(`VM ${VM}: disks`), daemon === hosts.a, 'VMs are looked at where they run');
  }
});

stage('the Replica VM is off and cannot be started by accident', async () => {
  const { host } = hosts.b;
  assert.equal(await host.virsh('domstate', VM), 'shut off');
  await assert.rejects(host.virsh('start', VM), /this-VM-is-a-replica--start-it-with-understudy-failover/);
  assert.equal(await host.virsh('domstate', VM), 'shut off');
  assert.match(await host.virsh('dominfo', VM), /Autostart:\s+disable/);
});

for (const which of ['latest', 'oldest'] as const) {
  stage(`test failover of the ${which} point, while replication goes on`, async () => {
    const { a, b } = hosts;
    const points = await pointsOf(b);
    const { sequence, instant } = which === 'latest' ? points[0]! : points.at(-1)!;
    const copy = new LabGuest(b.host, TEST_VM);
    const found = await foundAtBoot(copy, onB, async () => {
      const { result } = await b.act('testFailoverStart', { ref: VM, point: sequence });
      assert.deepEqual([result?.vmName, result?.point, result?.instant], [TEST_VM, sequence, instant]);
    });
    assertLoss(found, instant);
    assert.match(await b.host.virsh('dumpxml', TEST_VM), /<link state='down'\/>/);
    await protectedNow(a);
    assert.deepEqual(await guestsOn('b'), [TEST_VM]);

    await b.act('testFailoverStop', { ref: VM });
    assert.deepEqual(await guestsOn('b'), []);
    assert.ok(!(await b.host.virsh('list', '--all', '--name')).includes(TEST_VM));
    assert.deepEqual((await b.show(VM)).testVms, []);
  });
}

stage('unplanned failover after the death of the primary, from an older point, and cancelled', async () => {
  const { a, b, guestOnB, scratch } = hosts;
  await protectedNow(a);
  await a.host.crash();
  await b.waitFor(VM, 'alone', ({ peerStatus }) => peerStatus?.reachable !== true);
  const points = await pointsOf(b);
  const sequences = points.slice(0, 3).map(({ sequence }) => sequence);
  const before = await contentOf(b, scratch, sequences);

  const older = points[2]!;
  const found = await foundAtBoot(guestOnB, onB, () => b.act('unplannedFailover', { ref: VM, point: older.sequence }));
  assertLoss(found, older.instant);
  assert.equal((await b.show(VM)).state, 'FailedOverWaitingCompletion');

  await b.act('cancelFailover', { ref: VM });
  assert.deepEqual(await guestsOn('b'), []);
  await assert.rejects(b.host.virsh('start', VM), /this-VM-is-a-replica/);
  assert.deepEqual(await contentOf(b, scratch, sequences), before, 'a failover leaves every point as it was');
});

stage('the primary that returns after a cancelled failover goes on, and its guest starts again', async () => {
  const { a, guest } = hosts;
  const last = completed(onA);
  const found = await foundAtBoot(guest, onA, async () => {
    await a.host.start();
    await a.start();
  });
  assert.ok(found >= last, `${found} ≥ ${last}: A's own disks have everything`);
  // its bitmap died with QEMU: both sides are compared, which is no full copy
  const { state, statistics } = await a.waitFor(VM, 'replicating', (view) => view.state === 'Replicating');
  assert.equal(state, 'Replicating');
  assert.ok(statistics.lastSentBytes < FILLER_MIB * 1024 * 1024);
  await protectedNow(a);
  await assertByteEqual(a, hosts.b, hosts.scratch);
});

stage(
  'failover during a cut: the old primary steps down at the first contact, and goes on when it is cancelled',
  async () => {
    const { a, b, guest, guestOnB, scratch } = hosts;
    await protectedNow(a);
    await a.host.cut();
    const instant = (await pointsOf(b))[0]!.instant;
    await b.waitFor(VM, 'alone', ({ peerStatus }) => peerStatus?.reachable !== true);
    const latest = (await pointsOf(b))[0]!;
    assert.ok(latest.instant >= instant);
    const found = await foundAtBoot(guestOnB, onB, () => b.act('unplannedFailover', { ref: VM }));
    assertLoss(found, latest.instant);
    assert.equal(await guest.state(), 'running', 'nothing stops a guest because contact is lost');

    const healed = performance.now();
    await a.host.heal();
    const isDown = (view: { state: string; vmState: string | null }) =>
      view.state === 'SteppedDown' && view.vmState === 'paused';
    const stepped = await a.waitFor(VM, 'stepped down', isDown, 3 * STEP_DOWN_MS);
    const took = performance.now() - healed;
    assert.ok(took < STEP_DOWN_MS, `stepped down after ${Math.round(took)} ms`);
    assert.equal(stepped.vmState, 'paused');
    assert.equal(await guest.state(), 'paused');
    assert.equal(stepped.health, 'critical');
    console.log(`stepped down ${Math.round(took)} ms after the cut`);
    await until(async () => /^stepped-down: /m.test((await eventsOf(a)).join('\n')), {
      timeoutMs: 10_000,
      onTimeout: () => new Error(`nobody is told\n${a.lastWords()}`),
    });

    await b.act('cancelFailover', { ref: VM });
    await a.waitFor(VM, 'replicating', ({ state, vmState }) => state === 'Replicating' && vmState === 'running');
    assert.deepEqual(await guestsOn('b'), []);
    await protectedNow(a);
    await assertRecordsGood(guest);
    await assertByteEqual(a, b, scratch);
  },
);

stage('unplanned failover after the death of the primary, from the latest point, and completed', async () => {
  const { a, b, guestOnB } = hosts;
  await protectedNow(a);
  const crashed = Date.now();
  await a.host.crash();
  const last = completed(onA);
  let instant = 0;
  const found = await foundAtBoot(guestOnB, onB, async () => {
    const { result } = await b.act('unplannedFailover', { ref: VM });
    instant = result!.instant!;
  });
  assertLoss(found, instant);
  assert.ok(crashed - instant <= 2 * INTERVAL_MS, `the point is ${crashed - instant} ms old`);
  assert.ok(found <= last);

  await b.act('completeFailover', { ref: VM });
  assert.equal((await b.show(VM)).state, 'FailedOver');
  const written = completed(onB);
  await until(() => completed(onB) > written, { timeoutMs: BOOT_MS, onTimeout: () => new Error('the guest stands') });
  await assert.rejects(b.act('cancelFailover', { ref: VM }), { code: 'wrong-state' });
});

stage('the old primary returns, does not start its guest, and becomes the Replica server by a comparison', async () => {
  const { a, b, scratch } = hosts;
  await a.host.start();
  await a.start();
  await a.waitFor(VM, 'stepped down', ({ state }) => state === 'SteppedDown');
  assert.deepEqual(await guestsOn('a'), []);
  await assert.rejects(a.host.virsh('start', VM), /this-VM-is-a-replica/);

  await b.act('reverseReplication', { ref: VM });
  let compared = { blocksCompared: 0, blocksDifferent: 0 };
  await b.waitFor(VM, 'replicating', ({ state, copy }) => {
    if (copy !== null && copy.blocksCompared > compared.blocksCompared) compared = copy;
    return state === 'Replicating';
  });
  const { statistics } = await protectedNow(b);
  assert.ok(compared.blocksCompared > 0, 'both sides are compared');
  assert.ok(statistics.changedBytes < (allBlocks * 65_536) / 4, `${statistics.changedBytes} bytes differed or changed`);
  assert.ok(statistics.sentBytes < FILLER_MIB * 1024 * 1024, `${statistics.sentBytes} bytes sent: a full copy`);
  assert.equal((await a.show(VM)).role, 'replica');
  assert.deepEqual(await guestsOn('a'), []);
  await assertByteEqual(b, a, scratch);
});

stage('planned failover home loses nothing', async () => {
  const { a, b, guest, scratch } = hosts;
  const found = await foundAtBoot(guest, onA, () => b.act('plannedFailover', { ref: VM, shutdownTimeoutSeconds: 60 }));
  assert.equal(found, completed(onB), 'the last record of B is the last one that A finds');
  assert.deepEqual(await guestsOn('b'), []);
  await assert.rejects(b.host.virsh('start', VM), /this-VM-is-a-replica/);
  const { role, state } = await protectedNow(a);
  assert.deepEqual({ role, state }, { role: 'primary', state: 'Replicating' });
  assert.deepEqual(
    (await eventsOf(a)).slice(-3).filter((event) => event.startsWith('comparing:')),
    [],
  );
  assert.ok((await look(a)).statistics.sentBytes < FILLER_MIB * 1024 * 1024);
  await assertByteEqual(a, b, scratch);
});
