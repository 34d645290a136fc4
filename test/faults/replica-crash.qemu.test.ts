import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RecoveryPoint } from '../../src/model/relationship.ts';
import { pointsToKeep } from '../../src/model/retention.ts';
import { checkImage } from '../../src/qemu/image.ts';
import { Replica } from '../../src/replica/replica.ts';
import { IN_MERGING, IN_RECEIVING_AND_APPLYING } from './crash-points.ts';
import {
  compareDigests,
  compareWithPoint,
  knownDigests,
  newPlace,
  newReplica,
  send,
  type Place,
} from './replica-host.ts';
import { newSeed, seeded, TestPrimary } from './replica-primary.ts';
import { runReplica } from './run-replica.ts';

/** After these it can't be told who has written to the disks. */
const IN_WRITING_DISKS: readonly string[] = [
  'replica:writing',
  'replica:sourced',
  'replica:written',
  'replica:digesting',
];

/** All ways to die at each place, not some of them. */
const ALL = process.env['CRASHES'] === 'all';

async function checkAll(place: Place, primary: TestPrimary): Promise<number> {
  const replica = await Replica.open(place.options);
  try {
    await replica.drained();
    const points = replica.points();
    for (const { sequence } of points) {
      assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
    }
    return points.length;
  } finally {
    await replica.close();
  }
}

void test('a crash at any step of receiving and applying loses nothing that was acknowledged and damages no point', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  try {
    const replica = await Replica.create(place.options, newReplica(primary, { history: 5 }));
    for (let i = 0; i < 7; i++) await send(replica, await primary.log());
    await replica.drained();
    await replica.close();
    let known = await knownDigests(place, primary);
    for (const crash of IN_RECEIVING_AND_APPLYING) {
      // A storage daemon that dies alone is started again, and the log applied.
      if (ALL || primary.between(0, 3) === 0) {
        const applied = await primary.log({ changes: 8, refers: true });
        assert.equal(await runReplica(place, applied, { crash, dies: 'engine' }), null);
        assert.equal(await checkAll(place, primary), 6, `${crash}, of the storage daemon alone`);
      }
      const log = await primary.log({ changes: 8, refers: true });
      const dies = primary.between(0, 1) === 0 ? 'daemon' : 'both';
      assert.equal(await runReplica(place, log, { crash, dies }), 'SIGKILL', `${crash} was never reached`);
      assert.equal(await checkAll(place, primary), 6, crash);
      // What wasn't acknowledged is sent again.
      if (crash === 'replica:received') assert.equal(await runReplica(place, log, {}), null);
      // Digests are believed without a look at the disks: none is a lie, and none is forgotten but where the disks were being written.
      const now = await knownDigests(place, primary);
      const gone = IN_WRITING_DISKS.includes(crash);
      assert.ok(gone || now >= known, `${crash}: ${known} digests were known, ${now} are`);
      known = now;
    }
    t.diagnostic(`${known} digests known without being asked for`);
    assert.ok(known > 10);
    assert.equal(await checkAll(place, primary), 6);
    const last = await Replica.open(place.options);
    assert.equal(await compareDigests(last, primary), undefined);
    await last.close();
    for (const { target } of primary.disks) {
      const image = join(place.options.directory, 'disks', `${target}.qcow2`);
      assert.equal((await checkImage(image)).corruptions, 0);
    }
  } finally {
    await place.clear();
  }
});

void test('a crash at any step of merging undo logs keeps every kept point, and the merge is done or never was', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  const policy = { history: 2, thin: [{ everySeconds: 6, count: 50 }] };
  const undo = join(place.options.directory, 'undo');
  const kept = (points: readonly RecoveryPoint[]) =>
    [...pointsToKeep(points.slice(1), points[0]!, { last: policy.history, thin: policy.thin })].toSorted(
      (a, b) => b - a,
    );
  try {
    const replica = await Replica.create(place.options, newReplica(primary, policy));
    await send(replica, await primary.log());
    await replica.drained();
    await replica.close();
    const points: RecoveryPoint[] = [...replica.points()];
    for (const crash of IN_MERGING) {
      for (let tries = 0; ; tries++) {
        assert.ok(tries < 12, `${crash} was never reached`);
        const log = await primary.log({ changes: 8 });
        points.unshift(log.point!);
        if ((await runReplica(place, log, { crash })) === 'SIGKILL') break;
      }
      const after = (await readdir(undo)).length;
      const again = await Replica.open(place.options);
      await again.drained();
      await again.merged();
      const sequences = again.points().map(({ sequence }) => sequence);
      assert.deepEqual(sequences, kept(points), crash);
      for (const sequence of sequences) {
        assert.equal(await compareWithPoint(again, primary, sequence), undefined, `point ${sequence} after ${crash}`);
      }
      await again.close();
      const names = await readdir(undo);
      // One merge is done, or what was left of it goes; at the last place all of it is done.
      if (crash !== 'replica:merged') assert.ok(names.length < after, `${crash}: ${after} files, then ${names.length}`);
      assert.ok(names.every((name) => name.endsWith('.undo')));
    }
  } finally {
    await place.clear();
  }
});

void test('a crash while a log is applied with no way back, as no older point is kept', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  const undo = join(place.options.directory, 'undo');
  try {
    const replica = await Replica.create(place.options, newReplica(primary, { history: 0 }));
    await send(replica, await primary.log());
    await replica.drained();
    await replica.close();
    const { mtimeNs } = await stat(undo, { bigint: true });
    for (const crash of ['replica:writing', 'replica:written', 'replica:flushed', 'replica:recorded']) {
      const dies = primary.between(0, 1) === 0 ? 'daemon' : 'both';
      assert.equal(await runReplica(place, await primary.log({ changes: 8 }), { crash, dies }), 'SIGKILL', crash);
      assert.equal(await checkAll(place, primary), 1, crash);
    }
    // Its storage daemon alone: whoever asks for the point meanwhile gets it whole, or not at all.
    const log = await primary.log({ changes: 8 });
    assert.equal(await runReplica(place, log, { crash: 'replica:writing', dies: 'engine' }), null);
    assert.equal(await checkAll(place, primary), 1);
    assert.equal((await stat(undo, { bigint: true })).mtimeNs, mtimeNs, 'an undo log was made');
  } finally {
    await place.clear();
  }
});

void test('a crash during the initial copy', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  try {
    const replica = await Replica.create(place.options, newReplica(primary));
    await replica.close();
    for (const crash of ['replica:writing', 'replica:flushed', 'replica:recorded']) {
      const log = await primary.log({ changes: 8, point: false });
      assert.equal(await runReplica(place, log, { crash }), 'SIGKILL', `${crash} was never reached`);
    }
    assert.equal(await runReplica(place, await primary.log(), {}), null);
    assert.equal(await checkAll(place, primary), 1);
  } finally {
    await place.clear();
  }
});

void test('a crash at a random moment', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const random = seeded(seed);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  try {
    const replica = await Replica.create(place.options, newReplica(primary));
    await send(replica, await primary.log());
    await replica.drained();
    await replica.close();
    let killed = 0;
    for (let i = 0; i < 6; i++) {
      const log = await primary.log({ changes: 12 });
      const killAfterMs = 150 + random() * 600;
      if ((await runReplica(place, log, { killAfterMs })) !== null) killed++;
      assert.equal(await runReplica(place, log, {}), null);
    }
    t.diagnostic(`${killed} of 6 were killed`);
    assert.equal(await checkAll(place, primary), 7);
  } finally {
    await place.clear();
  }
});
