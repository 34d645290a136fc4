import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { compareWithPoint, newPlace, newReplica, send } from '../../test/faults/replica-host.ts';
import { difference, newSeed, readDisks, TestPrimary } from '../../test/faults/replica-primary.ts';
import type { Failure } from '../model/failure.ts';
import { Replica } from './replica.ts';

void test('every point reads as the primary was, while newer logs are applied', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary, { history: 200 }));
  try {
    const oldest = await primary.log({ changes: 20 });
    await send(replica, oldest);
    await replica.drained();
    const held = await replica.openView(1); // through the whole test, over 110 published undo logs
    let compared = 0;
    for (let i = 0; i < 110; i++) {
      const made = await primary.log({ point: i % 7 !== 3 });
      const sent = send(replica, made);
      if (i % 3 === 0) {
        const points = replica.points();
        const { sequence } = points[primary.between(0, points.length - 1)]!;
        assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}, log ${i}`);
        compared++;
      }
      await sent;
    }
    await replica.drained();
    const points = replica.points();
    assert.equal(points.length, 111 - Math.ceil((110 - 3) / 7));
    for (const { sequence } of points) {
      assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
    }
    assert.equal(difference(await readDisks(held.socketPath, primary.disks), primary.states.get(1)!), undefined);
    assert.equal(replica.openViews, 1);
    await held.close();
    assert.equal(replica.openViews, 0);
    t.diagnostic(`${compared} points compared during apply, ${points.length} after`);
    assert.deepEqual(await readdir(join(place.options.directory, 'inbox')), []);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('without older points a view of the latest one shows it whole, whatever is applied meanwhile', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary, { history: 0 }));
  try {
    await send(replica, await primary.log({ changes: 20 }));
    await replica.drained();
    let whole = 0;
    for (let i = 0; i < 40; i++) {
      const sent = send(replica, await primary.log({ changes: 20 }));
      const { sequence } = replica.points()[0]!;
      try {
        const view = await replica.openView(sequence);
        await sent;
        assert.equal(
          difference(await readDisks(view.socketPath, primary.disks), primary.states.get(sequence)!),
          undefined,
        );
        await view.close();
        whole++;
      } catch (error) {
        assert.equal((error as Failure).code, 'not-found', String(error)); // the next log was first
        await sent;
      }
    }
    await replica.drained();
    t.diagnostic(`${whole} views of 40`);
    assert.ok(whole > 0);
    assert.equal(replica.points().length, 1);
    assert.equal(await compareWithPoint(replica, primary, replica.points()[0]!.sequence), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('only the kept points stay, and a view of a retired one goes on', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary, { history: 3 }));
  try {
    await send(replica, await primary.log());
    await replica.drained();
    const view = await replica.openView(1);
    for (let i = 0; i < 8; i++) await send(replica, await primary.log({ point: i % 2 === 0 }));
    await replica.drained();
    assert.deepEqual(
      replica.points().map(({ sequence }) => sequence),
      [8, 6, 4],
    );
    assert.equal(replica.record.latest, null);
    await send(replica, await primary.log());
    await replica.drained();
    assert.deepEqual(
      replica.points().map(({ sequence }) => sequence),
      [10, 8, 6, 4],
    );
    // Those to states between points are merged with their neighbours, or wait for it.
    const undo = (await readdir(join(place.options.directory, 'undo'))).filter((name) => !name.endsWith('.merge'));
    assert.ok(undo.length >= 3 && undo.length <= 6, undo.join(' '));
    assert.equal(difference(await readDisks(view.socketPath, primary.disks), primary.states.get(1)!), undefined);
    await assert.rejects(replica.openView(1), { code: 'not-found' });
    await replica.forgetPoints();
    assert.deepEqual(
      replica.points().map(({ sequence }) => sequence),
      [10],
    );
    assert.deepEqual(await readdir(join(place.options.directory, 'undo')), []);
    assert.equal(await compareWithPoint(replica, primary, 10), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('an initial copy onto empty disks keeps no undo logs, and no point is offered before its end', async () => {
  const primary = new TestPrimary(1);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary));
  try {
    for (let i = 0; i < 3; i++) await send(replica, await primary.log({ point: false }));
    await replica.drained();
    assert.deepEqual(replica.points(), []);
    await send(replica, await primary.log());
    await replica.drained();
    assert.deepEqual(await readdir(join(place.options.directory, 'undo')), []);
    assert.equal(replica.points().length, 1);
    assert.equal(await compareWithPoint(replica, primary, 4), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('a confirmation moves the latest point on, also when its log is still to be applied, and survives', async () => {
  const primary = new TestPrimary(2);
  const place = await newPlace();
  let replica = await Replica.create(place.options, newReplica(primary));
  try {
    const made = await primary.log();
    await send(replica, made);
    const instant = made.point!.instant + 5000;
    await replica.confirm(made.makes, instant);
    await replica.drained();
    assert.equal(replica.points()[0]!.confirmed, instant);
    await replica.confirm(made.makes, instant + 1);
    await replica.confirm(made.makes, instant - 1);
    assert.equal(replica.points()[0]!.confirmed, instant + 1);
    await assert.rejects(replica.confirm({ ...made.makes, sequence: 9 }, 1), { code: 'not-following' });
    // After a planned failover the new primary stands where the old one stopped, and nothing has changed since.
    await replica.raiseEpoch(2);
    await replica.confirm(made.makes, instant + 2);
    await replica.freeze();
    await assert.rejects(replica.confirm(made.makes, instant + 3), { code: 'stale-epoch' });
    await replica.thaw();
    await replica.close();
    replica = await Replica.open(place.options);
    assert.equal(replica.points()[0]!.confirmed, instant + 2);
    assert.deepEqual(await readdir(place.options.directory).then((names) => names.toSorted()), [
      'digests',
      'disks',
      'inbox',
      'replica.json',
      'undo',
    ]);
  } finally {
    await replica.close();
    await place.clear();
  }
});
