/** A disk that is gone: older points have it, newer ones don't, its image goes with the last point that has it, and it may come back. */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { compareWithPoint, newPlace, newReplica, send, type Place } from '../../test/faults/replica-host.ts';
import { readPoints } from '../../test/faults/power-loss/second-reader.ts';
import { difference, newSeed, TestPrimary } from '../../test/faults/replica-primary.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { imageInfo } from '../qemu/image.ts';
import { Replica } from './replica.ts';

let place: Place;
let primary: TestPrimary;
let replica: Replica;
before(async () => {
  place = await newPlace();
});
after(async () => {
  await replica?.close();
  await place.clear();
});

/** The second disk is there, or gone. */
function second(change: (disk: ReplicatedDisk) => ReplicatedDisk): void {
  primary.reshape(primary.disks.map((disk, i) => (i === 1 ? change(disk) : disk)));
}
const leaves = () => second((disk) => ({ ...disk, gone: true }));

async function assertPoints(wanted: Record<number, string>): Promise<void> {
  await replica.drained();
  const named = replica.points().map(({ sequence }) => {
    const disks = replica.disksAt(sequence).map(({ target }) => target);
    return [sequence, disks.join(' ')] as const;
  });
  assert.deepEqual(Object.fromEntries(named), wanted);
  for (const sequence of Object.keys(wanted).map(Number)) {
    assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
  }
}

async function assertReadOtherwise(): Promise<void> {
  const points = replica.points();
  await replica.close();
  const read = await readPoints(place.options.directory);
  for (const { sequence } of points) {
    assert.equal(difference(read.get(sequence)!, primary.states.get(sequence)!), undefined, `point ${sequence}`);
  }
  replica = await Replica.open(place.options);
}

const image = () => join(place.options.directory, 'disks', 'vdb.qcow2');
const room = async () => (await stat(image())).blocks * 512;

void test('it is in the points from before, not in those from then on', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  primary = new TestPrimary(seed);
  const reshaped: string[] = [];
  const onReshaped = (disks: readonly ReplicatedDisk[]) => reshaped.push(disks.map(({ target }) => target).join(' '));
  replica = await Replica.create({ ...place.options, onReshaped }, newReplica(primary, { history: 3 }));
  await send(replica, await primary.log({ changes: 20 }));
  await send(replica, await primary.log({ whole: 1, changes: 0 }));
  leaves();
  await send(replica, await primary.log({ changes: 0, refers: false }));
  await assertPoints({ 3: 'vda', 2: 'vda vdb', 1: 'vda vdb' });
  assert.deepEqual(reshaped, ['vda']);
  assert.deepEqual(
    replica.disks.map(({ target }) => target),
    ['vda'],
  );
  await send(replica, await primary.log());
  await assertPoints({ 4: 'vda', 3: 'vda', 2: 'vda vdb', 1: 'vda vdb' });
  await assertReadOtherwise();
});

void test('a log that has frames of a disk which it says is gone is refused', async () => {
  const bad = new TestPrimary(1);
  bad.goBack(bad.position);
  const log = await bad.log({
    changes: 0,
    refers: false,
    whole: 1,
    header: { disks: bad.disks.map((disk, i) => (i === 1 ? { ...disk, gone: true } : disk)) },
  });
  const other = await newPlace();
  const fresh = await Replica.create(other.options, newReplica(bad));
  try {
    await assert.rejects(send(fresh, log), { code: 'bad-log', message: /vdb, which the header says is gone/ });
  } finally {
    await fresh.close();
    await other.clear();
  }
});

void test('a failover to a point from before has it, one to a later point has not', async () => {
  await replica.freeze();
  for (const [sequence, targets] of [
    [4, ['vda']],
    [1, ['vda', 'vdb']],
  ] as const) {
    const overlays = new Map(targets.map((target) => [target, join(place.directory, `${sequence}-${target}`)]));
    await replica.materialise(sequence, overlays);
    assert.deepEqual(
      replica.disksAt(sequence).map(({ target }) => target),
      targets,
    );
    for (const path of overlays.values()) assert.equal((await imageInfo(path, { format: 'qcow2' })).format, 'qcow2');
  }
  await replica.thaw();
});

void test('its image is made empty with the last point that has it, not while somebody looks at that', async () => {
  const full = await room();
  assert.ok(full > 512 * 1024, `${full}`);
  const held = await replica.openView(2);
  for (let i = 0; i < 3; i++) await send(replica, await primary.log());
  await assertPoints({ 7: 'vda', 6: 'vda', 5: 'vda', 4: 'vda' });
  assert.equal(await room(), full, 'a view reads it');
  await held.close();
  await send(replica, await primary.log());
  await assertPoints({ 8: 'vda', 7: 'vda', 6: 'vda', 5: 'vda' });
  assert.ok((await room()) < full / 2, `${await room()} of ${full} bytes`);
  await assertReadOtherwise();
});

void test('it comes back in its place, of another size', async () => {
  second(({ target }) => ({ target, size: 700_416 }));
  await send(replica, await primary.log({ whole: 1, point: false }));
  await send(replica, await primary.log());
  await assertPoints({ 10: 'vda vdb', 8: 'vda', 7: 'vda', 6: 'vda' });
  leaves();
  await send(replica, await primary.log());
  // Back again while an older point has it: what that one reads is kept.
  second(({ target, size }) => ({ target, size: size - 512 }));
  await send(replica, await primary.log({ whole: 1 }));
  await assertPoints({ 12: 'vda vdb', 11: 'vda', 10: 'vda vdb', 8: 'vda' });
  await assertReadOtherwise();
});
