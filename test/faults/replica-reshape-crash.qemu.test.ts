/** Crashes while a log is applied that changes the sizes of disks, or adds one; and while such a log is lost then. */
import assert from 'node:assert/strict';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { LogReader } from '../../src/deltalog/reader.ts';
import type { ReplicatedDisk } from '../../src/model/relationship.ts';
import { presentDisks } from '../../src/model/shape.ts';
import { checkImage, imageInfo } from '../../src/qemu/image.ts';
import { Replica } from '../../src/replica/replica.ts';
import { IN_A_RESHAPE, IN_DROPPING_A_DISK, IN_GIVING_UP, IN_RECEIVING_AND_APPLYING } from './crash-points.ts';
import { readPoints } from './power-loss/second-reader.ts';
import {
  compareDigests,
  compareWithPoint,
  knownDigests,
  newPlace,
  newReplica,
  send,
  type Place,
} from './replica-host.ts';
import { difference, newSeed, TestPrimary } from './replica-primary.ts';
import { runReplica } from './run-replica.ts';

/** All ways to die at each place, not some of them. */
const ALL = process.env['CRASHES'] === 'all';

/** From the first look at the images on. */
const APPLYING = IN_RECEIVING_AND_APPLYING.slice(IN_RECEIVING_AND_APPLYING.indexOf('replica:undo-final'));

/** One disk becomes shorter, by more than a block or so, and each of the others longer; now and then there is one more. */
function another(primary: TestPrimary, adds: boolean): ReplicatedDisk[] {
  const shorter = primary.between(0, primary.disks.length - 1);
  const disks = primary.disks.map(({ target, size }, i) => {
    if (i !== shorter) return { target, size: size + 512 * primary.between(1, 400) };
    return { target, size: 512 * primary.between(50, Math.floor(size / 512) - 1) };
  });
  if (!adds || disks.length === 4) return disks;
  return [...disks, { target: `vd${'abcd'[disks.length]}`, size: 512 * primary.between(1, 600) }];
}

/** Reads every point by our views, then without a line of ours; gives their sequences. */
async function checkAll(place: Place, primary: TestPrimary): Promise<number[]> {
  const foreign: string[] = [];
  const onDamage = (text: string): void => void (text.includes('did not use it') && foreign.push(text));
  const replica = await Replica.open({ ...place.options, onDamage });
  const sequences: number[] = [];
  try {
    await replica.drained();
    for (const { sequence } of replica.points()) {
      assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
      sequences.push(sequence);
    }
    assert.equal(await compareDigests(replica, primary), undefined);
  } finally {
    await replica.close();
  }
  assert.deepEqual(foreign, [], 'what was done by ourselves is taken for the hand of another');
  for (const { target, path, size } of replica.disks) {
    assert.equal((await imageInfo(path)).size, size, `the image of ${target}`);
    assert.equal((await checkImage(path)).corruptions, 0);
  }
  const shapes = replica.disks.map(({ target, size }) => ({ target, size }));
  assert.deepEqual(shapes, presentDisks(primary.disks));
  const read = await readPoints(place.options.directory);
  for (const sequence of sequences) {
    const wanted = primary.states.get(sequence)!;
    assert.deepEqual(
      read.get(sequence)!.map(({ length }) => length),
      wanted.map(({ length }) => length),
    );
    assert.equal(difference(read.get(sequence)!, wanted), undefined, `point ${sequence}, read otherwise`);
  }
  await knownDigests(place, primary); // throws for one that is a lie
  return sequences;
}

async function begin(primary: TestPrimary, place: Place): Promise<void> {
  const replica = await Replica.create(place.options, newReplica(primary, { history: 4 }));
  for (let i = 0; i < 4; i++) await send(replica, await primary.log());
  await replica.drained();
  await replica.close();
}

void test('a crash at any step of a reshape leaves every point with its shape and its bytes', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  try {
    await begin(primary, place);
    const some = APPLYING.filter(() => ALL || primary.between(0, 3) === 0);
    for (const crash of [...IN_A_RESHAPE, ...some]) {
      primary.reshape(another(primary, primary.between(0, 2) === 0));
      // Also one that says nothing but the shape, where it isn't the writing that is cut.
      const says = APPLYING.some((name) => name === crash) || primary.between(0, 1) === 0;
      const log = await primary.log(says ? { changes: 8, refers: true } : { changes: 0, refers: false });
      const dies = primary.between(0, 1) === 0 ? 'daemon' : 'both';
      assert.equal(await runReplica(place, log, { crash, dies }), 'SIGKILL', `${crash} was never reached`);
      const points = await checkAll(place, primary);
      assert.deepEqual(
        points,
        [0, 1, 2, 3, 4].map((back) => log.sequence - back),
        crash,
      );
    }
  } finally {
    await place.clear();
  }
});

void test('a crash while the image of a disk that is gone is made empty costs nothing', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  for (const crash of IN_DROPPING_A_DISK) {
    const place = await newPlace();
    try {
      const primary = new TestPrimary(seed);
      await begin(primary, place);
      const room = async () => (await stat(join(place.options.directory, 'disks', 'vdb.qcow2'))).blocks;
      const before = await room();
      primary.reshape(primary.disks.map((disk, i) => (i === 1 ? { ...disk, gone: true } : disk)));
      // With the fifth log that lacks it the last point goes that has it.
      for (let i = 0; i < 4; i++) assert.equal(await runReplica(place, await primary.log(), {}), null);
      assert.equal(await room(), before);
      const log = await primary.log();
      assert.equal(await runReplica(place, log, { crash, dies: 'both' }), 'SIGKILL', `${crash} was never reached`);
      assert.deepEqual(
        await checkAll(place, primary),
        [0, 1, 2, 3, 4].map((back) => log.sequence - back),
      );
      assert.equal(await runReplica(place, await primary.log(), {}), null);
      await checkAll(place, primary);
      assert.ok((await room()) < before, `${await room()} of ${before} blocks, with the next log`);
      assert.match(await readFile(join(place.options.directory, 'replica.json'), 'utf8'), /"emptied": true/);
    } finally {
      await place.clear();
    }
  }
});

void test('a log of another shape that is lost after a crash is taken back, and leaves nothing in what the disks gain later', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  try {
    await begin(primary, place);
    for (const crash of ['replica:reshaped', 'replica:written', 'replica:cut']) {
      const before = primary.position;
      const points = await checkAll(place, primary);
      primary.reshape(another(primary, true));
      const log = await primary.log({ changes: 12 });
      assert.equal(await runReplica(place, log, { crash, dies: 'both' }), 'SIGKILL', `${crash} was never reached`);
      await damageReceived(place, primary);
      primary.goBack(before);
      // Whoever opens it finds the damage, and dies, too: before it is taken back, and after.
      for (const dies of IN_GIVING_UP) {
        if (!ALL && primary.between(0, 1) === 0) continue;
        assert.equal(
          await runReplica(place, undefined, { crash: dies, dies: 'both' }),
          'SIGKILL',
          `${dies} was never reached`,
        );
      }
      const after = await checkAll(place, primary);
      assert.deepEqual(after, points, crash);
      primary.reshape([
        ...primary.disks.map(({ target, size }) => ({ target, size: size + 1_048_576 })),
        ...(primary.disks.length < 4 ? [{ target: `vd${'abcd'[primary.disks.length]}`, size: 300_032 }] : []),
      ]);
      assert.equal(await runReplica(place, await primary.log({ changes: 0, refers: false }), {}), null);
      await checkAll(place, primary);
    }
  } finally {
    await place.clear();
  }
});

/** The log that waits isn't any more what it was: all of its frames, or its end, which is looked at when it is opened. */
async function damageReceived(place: Place, primary: TestPrimary): Promise<void> {
  const inbox = join(place.options.directory, 'inbox');
  const path = join(
    inbox,
    (await readdir(inbox)).find((name) => name.endsWith('.log'))!,
  );
  const bytes = await readFile(path);
  const reader = await LogReader.open(path);
  const places = (await reader.index()).map(({ at }) => at + 40); // in the digest of each
  await reader.close();
  for (const at of primary.between(0, 1) === 0 ? [bytes.length - 12] : places) bytes[at]! ^= 1;
  await writeFile(path, bytes);
}
