import assert from 'node:assert/strict';
import { access, mkdir, readdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { silentLog } from '../lib/log.ts';
import { run } from '../lib/process.ts';
import { Failure } from '../model/failure.ts';
import type { PrepareReplica } from '../protocol/endpoint.ts';
import { createImage } from '../qemu/image.ts';
import { compareWithPoint, newPlace, newReplica, send, type Place } from '../../test/faults/replica-host.ts';
import { newSeed, TestPrimary } from '../../test/faults/replica-primary.ts';
import { LocalEndpoint, type FormerDisks } from './endpoint.ts';
import { Replica } from './replica.ts';
import { Replicas } from './replicas.ts';

void describe('disks that are there already', () => {
  let place: Place;
  let replicas: Replicas;
  const options = () => ({
    directory: join(place.directory, 'replicas'),
    runDirectory: join(place.directory, 'run'),
    lanes: place.options.lanes,
    log: silentLog(),
  });

  beforeEach(async () => {
    place = await newPlace();
    replicas = await Replicas.open(options());
  });
  afterEach(async () => {
    await replicas.close();
    await place.clear();
  });

  function endpoint(former: FormerDisks | undefined): LocalEndpoint {
    return new LocalEndpoint(replicas, {
      primaryStatus: () => undefined,
      adoptDisks: () => Promise.resolve(former),
      prepared: () => Promise.resolve(),
      takeOver: () => Promise.reject(new Failure('wrong-state', 'not asked for in this test')),
      removed: () => Promise.resolve(),
      stateOf: () => 'Resynchronizing',
      vmRunning: () => Promise.resolve(false),
    });
  }

  function compare(primary: TestPrimary): PrepareReplica {
    const { id, position: start, disks } = primary;
    const { vmId, vmName, definition } = newReplica(primary);
    return {
      id,
      vmId,
      vmName,
      definition,
      disks,
      epoch: start.epoch,
      intervalSeconds: 5,
      history: 4,
      base: 'compare',
      start,
    };
  }

  void test('a former primary’s are compared with, and what they held stays as a found point', async (t) => {
    const seed = newSeed();
    t.diagnostic(`SEED=${seed}`);
    const primary = new TestPrimary(seed);
    // What the former primary held: made by a replica, whose disks are then taken.
    const old = await Replica.create(place.options, newReplica(primary));
    await send(old, await primary.log({ changes: 10 }));
    await old.drained();
    await old.remove({ keepDisks: true });
    const former = { disks: old.disks, instant: 1234 };

    primary.position = { epoch: 2, sequence: 9, state: 'a'.repeat(32) };
    primary.states.set(9, primary.states.get(1)!);
    const request = compare(primary);
    const status = await endpoint(former).prepare(request);
    assert.deepEqual(status.received, primary.position);
    assert.deepEqual(await endpoint(former).prepare(request), status);
    const replica = replicas.get(primary.id);
    assert.deepEqual(replica.points(), [{ sequence: 9, epoch: 2, instant: 1234, confirmed: 1234, kind: 'found' }]);
    await send(replica, await primary.log({ point: false }));
    await send(replica, await primary.log());
    await replica.drained();
    assert.deepEqual(
      replica.points().map(({ sequence }) => sequence),
      [11, 9],
    );
    assert.equal(await compareWithPoint(replica, primary, 9), undefined);
    assert.equal(await compareWithPoint(replica, primary, 11), undefined);

    // They were there before the replica, so they stay when it goes.
    await replicas.remove(primary.id, { keepDisks: false });
    for (const { path } of former.disks) await access(path);
    assert.deepEqual(await readdir(options().directory), []);
  });

  void test('of another size they are taken as they are, missing they are refused', async () => {
    const primary = new TestPrimary(1);
    const small = primary.disks.map(({ target }) => {
      return { target, size: 65_536, path: join(place.directory, `small-${target}.qcow2`) };
    });
    for (const { path, size } of small) await createImage(path, size, { format: 'qcow2' });
    await assert.rejects(endpoint({ disks: [], instant: 0 }).prepare(compare(primary)), { code: 'not-found' });
    assert.deepEqual(replicas.all(), []);
    await endpoint({ disks: small, instant: 0 }).prepare(compare(primary));
    // What the primary sends brings them into shape.
    assert.deepEqual(replicas.get(primary.id).disks, small);
    await send(replicas.get(primary.id), await primary.log({ changes: 20 }));
    await replicas.get(primary.id).drained();
    assert.equal(await compareWithPoint(replicas.get(primary.id), primary, 1), undefined);
    await replicas.remove(primary.id, { keepDisks: false });
  });

  void test('encrypted ones are refused, and stay as they are', async () => {
    const primary = new TestPrimary(5);
    const key = join(place.directory, 'key');
    await writeFile(key, 'right');
    const former = primary.disks.map(({ target, size }) => {
      return { target, size, path: join(place.directory, `${target}.former`) };
    });
    const [{ path, size }, ...plain] = former as [(typeof former)[0], ...typeof former];
    for (const disk of plain) await createImage(disk.path, disk.size, { format: 'qcow2' });
    const luks = 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10';
    const make = [
      'create',
      '-q',
      '-f',
      'qcow2',
      '--object',
      `secret,id=key,file=${key}`,
      '-o',
      luks,
      path,
      String(size),
    ];
    assert.equal((await run('qemu-img', make)).code, 0);
    const before = await readFile(path);
    await assert.rejects(endpoint({ disks: former, instant: 0 }).prepare(compare(primary)), { code: 'disk-encrypted' });
    assert.deepEqual(replicas.all(), []);
    assert.ok((await readFile(path)).equals(before));
  });

  void test('kept ones are never overwritten, those of an unfinished creation are', async () => {
    const primary = new TestPrimary(2);
    const replica = await replicas.create(newReplica(primary));
    const [first] = replica.disks;
    await replicas.remove(primary.id, { keepDisks: true });
    const kept = await readFile(first!.path);
    await assert.rejects(replicas.create(newReplica(primary)), { code: 'already-exists', message: /exists already/ });
    await assert.rejects(replicas.create(newReplica(primary)), { code: 'already-exists', message: /exists already/ });
    assert.ok((await readFile(first!.path)).equals(kept));

    const other = new TestPrimary(3, '31111111-2222-4333-8444-555555555555');
    const directory = join(options().directory, other.id);
    await mkdir(join(directory, 'disks'), { recursive: true });
    await writeFile(join(directory, 'disks', 'vda.qcow2'), 'half an image');
    await writeFile(join(directory, 'creating'), JSON.stringify(['vda.qcow2', 'vdb.qcow2']));
    await replicas.create(newReplica(other));
    await send(replicas.get(other.id), await other.log());
    await replicas.get(other.id).drained();
    assert.equal(await compareWithPoint(replicas.get(other.id), other, 1), undefined);
  });

  void test('what a crash left of a removal goes when it is removed again, and keeps nobody from a new replica', async () => {
    for (const again of ['remove', 'create'] as const) {
      const primary = new TestPrimary(4);
      const replica = await replicas.create(newReplica(primary));
      await send(replica, await primary.log());
      await replica.drained();
      await replica.close();
      // Where a crash left it: the record is gone, its images and logs are not.
      await writeFile(
        join(replica.directory, 'creating'),
        JSON.stringify(await readdir(join(replica.directory, 'disks'))),
      );
      await unlink(join(replica.directory, 'replica.json'));
      await replicas.close();
      replicas = await Replicas.open(options());
      assert.deepEqual(replicas.all(), []);
      if (again === 'create') await replicas.create(newReplica(primary));
      await replicas.remove(primary.id, { keepDisks: false });
      assert.deepEqual(await readdir(options().directory), []);
    }
  });

  void test('one that can not be opened is removed like any other', async () => {
    const primary = new TestPrimary(5);
    const replica = await replicas.create(newReplica(primary));
    await replicas.close();
    await writeFile(join(replica.directory, 'replica.json'), 'damaged');
    replicas = await Replicas.open(options());
    assert.deepEqual([...replicas.broken.keys()], [primary.id]);
    await replicas.remove(primary.id, { keepDisks: false });
    assert.equal(replicas.broken.size, 0);
    assert.deepEqual(await readdir(options().directory), []);
  });

  void test('one replica that cannot be opened says why, and leaves the others alone', async () => {
    const [good, bad] = [new TestPrimary(4), new TestPrimary(5, '41111111-2222-4333-8444-555555555555')];
    await replicas.create(newReplica(good));
    await replicas.create(newReplica(bad));
    await replicas.close();
    const record = join(options().directory, bad.id, 'replica.json');
    await writeFile(record, (await readFile(record, 'utf8')).replace('"format": 1', '"format": 7'));
    replicas = await Replicas.open(options());
    assert.equal(replicas.get(good.id).status().received.sequence, 0);
    assert.throws(() => replicas.get(bad.id), { code: 'format-unknown', message: /format 7/ });
    await assert.rejects(replicas.create(newReplica(bad)), { code: 'format-unknown' });
    await writeFile(record, (await readFile(record, 'utf8')).replace('"format": 7', '"format": 0'));
    await replicas.close();
    replicas = await Replicas.open(options());
    assert.throws(() => replicas.get(bad.id), { code: 'format-unknown', hint: /--keep-disks/ });
    await writeFile(record, '{');
    await replicas.close();
    replicas = await Replicas.open(options());
    assert.throws(() => replicas.get(bad.id), { code: 'io', message: /is not JSON/ });
  });
});
