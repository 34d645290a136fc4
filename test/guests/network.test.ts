/** Cut and slow networks under a real guest: replication goes on where it was, and the guest doesn't notice. */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import type { Witness } from '../../lab/guest/witness.ts';
import { sleep, until } from '../../src/lib/clock.ts';
import { assertByteEqual, pointsOf } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { INTERVAL_SECONDS, TwoHosts, VM, eventsOf, hurry, look, protectedNow } from '../system/two-hosts.ts';

const MIB = 1024 * 1024;
const FILLER_MIB = 24;
const CUT_MS = 30_000;
/** So slow that the copy is in the middle of its filler when the cable is pulled. */
const COPY_MBIT = 16;
/** A frame, and what TCP and the sender had in hand on a link like that. */
const MOST_RESENT = 2 * MIB;
/** TCP alone would try again after about as long as the cut took. */
const LONGEST_STANDSTILL_MS = 5000;

const SLOW_MBIT = 2;
const CHANGED_MIB = 50;
const SLOW_FOR_MS = 18_000;
const LONGEST_JOB_MS = 10_000;
/** At 5 records a second nothing of the guest may stand still for longer: job, load of the machine, and all. */
const LONGEST_SILENCE_MS = 3000;

const stage = stages();
let hosts: TwoHosts;
let witness: Witness;

before(async () => {
  hosts = await TwoHosts.create('guest-network.test', {
    guest: { vda: { sizeMiB: 96, fillerMiB: FILLER_MIB }, vdb: { sizeMiB: 96 }, rewriteKiB: 32 },
    config: { slice: { bytes: 8 * MIB } },
  });
  witness = hosts.guest.witness();
});
after(async () => {
  witness?.stop();
  await hosts?.[Symbol.asyncDispose]();
});

stage(`${CUT_MS / 1000} s without network in the middle of the initial copy: it goes on where it was`, async () => {
  const { a, b, scratch } = hosts;
  await a.host.limit(COPY_MBIT);
  await hosts.enable();
  const sent = async () => {
    const { statistics, inFlight } = await look(a);
    return statistics.sentBytes + (inFlight?.sentBytes ?? 0);
  };
  await until(async () => (await sent()) > (FILLER_MIB / 3) * MIB, {
    timeoutMs: 60_000,
    onTimeout: () => new Error(`the copy does not begin\n${a.lastWords()}`),
  });
  await a.host.cut();
  await sleep(CUT_MS);
  assert.equal((await look(a)).state, 'InitialReplicationInProgress');
  const before = await sent();
  const copied = (await look(a)).copy?.bytesDone ?? 0;
  assert.ok(before < FILLER_MIB * MIB, `the cut was not in the middle: ${before} bytes were sent`);
  await a.host.limit(null);
  await a.host.heal();
  const healed = performance.now();
  await until(async () => (await sent()) > before, {
    timeoutMs: 60_000,
    onTimeout: () => new Error('it stands still'),
  });
  const { copy } = await look(a);
  assert.ok(copy === null || copy.bytesDone >= copied, 'it started over');
  const wentOn = performance.now() - healed;
  console.log(`went on ${(wentOn / 1000).toFixed(1)} s after the cut`);
  assert.ok(wentOn < LONGEST_STANDSTILL_MS, `it stood still for ${wentOn} ms`);
  await a.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating');
  console.log(`replicating ${((performance.now() - healed) / 1000).toFixed(1)} s after the cut`);

  const { statistics } = await look(a);
  console.log(`sent ${statistics.sentBytes} bytes, of them ${statistics.resentBytes} again`);
  assert.ok(statistics.resentBytes <= MOST_RESENT, `${statistics.resentBytes} bytes were sent again`);
  assert.deepEqual(
    (await eventsOf(a)).filter((event) => event.startsWith('comparing:')),
    [],
  );
  await assertByteEqual(a, b, scratch);
});

stage(
  `${CHANGED_MIB} MiB changed behind ${SLOW_MBIT} Mbit/s: short jobs, a guest that runs, a lag that is true`,
  async () => {
    const { a, b, guest, scratch } = hosts;
    await protectedNow(a);
    const before = (await look(a)).statistics;
    await a.host.limit(SLOW_MBIT);
    // vda and vdb half each: more than one disk at one instant
    for (const disk of ['vda', 'vdb']) {
      const write = `dd if=/dev/urandom of=/${disk}/changed bs=1M count=${CHANGED_MIB / 2} conv=fsync`;
      const { code, stderr } = await guest.agent.exec(['/bin/sh', '-c', write]);
      assert.equal(code, 0, stderr);
    }
    await hurry(a);

    const from = performance.now();
    const states = new Set<string>();
    let looks = 0;
    let silence = 0;
    while (performance.now() - from < SLOW_FOR_MS) {
      witness.poll();
      silence = Math.max(silence, Date.now() - witness.completed.at(-1)!.seen);
      states.add(await guest.state());
      const points = await pointsOf(b);
      const [now, view] = [Date.now(), await look(a)];
      // protected is what the replica has: its latest point, or the one that it is applying
      const acknowledged = view.protectedUntil!;
      assert.ok(acknowledged >= points[0]!.confirmed, 'the primary is behind what the replica says');
      assert.ok(
        Math.abs(view.lagMs! - (now - acknowledged)) < 1000,
        `lag ${view.lagMs}, in truth ${now - acknowledged}`,
      );
      looks++;
      await sleep(250);
    }
    const during = await look(a);
    assert.ok(during.lagMs! > SLOW_FOR_MS - 2000 * INTERVAL_SECONDS, `the lag grows: ${during.lagMs} ms`);
    assert.ok(during.inFlight !== null, 'what has changed is still being sent');
    assert.equal((await pointsOf(b))[0]!.confirmed, during.protectedUntil, 'the lag counts from the latest point');
    assert.ok(looks > 10);
    assert.deepEqual([...states], ['running']);
    assert.ok(silence < LONGEST_SILENCE_MS, `the guest stood still for ${silence} ms`);

    await a.host.limit(null);
    const { statistics } = await protectedNow(a, 120_000);
    console.log(`longest job ${Math.round(statistics.maxJobMs)} ms, longest silence of the guest ${silence} ms`);
    assert.ok(statistics.maxJobMs < LONGEST_JOB_MS, `a job was open for ${statistics.maxJobMs} ms`);
    assert.ok(statistics.sentBytes - before.sentBytes > CHANGED_MIB * MIB, "it can't be compressed");
    const missed = Math.floor(SLOW_FOR_MS / 1000 / INTERVAL_SECONDS) - 2;
    assert.ok(statistics.missedCycles - before.missedCycles >= missed, `${statistics.missedCycles} missed cycles`);
    await assertByteEqual(a, b, scratch);
  },
);
