import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, copyFile, open, readlink, stat, utimes, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, test, type TestContext } from 'node:test';
import {
  compareDigests,
  knownDigests,
  newPlace,
  newReplica,
  send,
  type Place,
} from '../../test/faults/replica-host.ts';
import { TestPrimary } from '../../test/faults/replica-primary.ts';
import { DIGEST_SIZE } from '../lib/digest.ts';
import { closeImageDigests, openImageDigests } from './image-digests.ts';
import { Replica } from './replica.ts';

let place: Place;
let primary: TestPrimary;
beforeEach(async () => {
  place = await newPlace();
  primary = new TestPrimary(5);
});
afterEach(() => place.clear());

const image = (target: string) => join(place.options.directory, 'disks', `${target}.qcow2`);
const digests = (target: string) => join(place.options.directory, 'digests', `${target}.digests`);

/** A replica that has applied some logs, and knows all of its blocks. */
async function replicaThatKnows(): Promise<Replica> {
  const replica = await Replica.create(place.options, newReplica(primary));
  for (let i = 0; i < 3; i++) await send(replica, await primary.log({ changes: 12 }));
  await replica.drained();
  assert.equal(await compareDigests(replica, primary), undefined);
  return replica;
}

/** Writes a file's bytes into another one, which stays the same file, with the time of its last write. */
async function restoreInPlace(from: string, to: string): Promise<void> {
  const { atime, mtime } = await stat(from);
  await copyFile(from, to);
  await utimes(to, atime, mtime);
}

void describe('digests of a replica’s disks', () => {
  void test('a disk that is restored in place while nobody looks is read again, also with the times that it had', async () => {
    const replica = await replicaThatKnows();
    const older = primary.bytes.map((bytes) => Buffer.from(bytes));
    await replica.close();
    for (const { target } of primary.disks) await copyFile(image(target), join(place.directory, target));
    const again = await Replica.open(place.options);
    await send(again, await primary.log({ changes: 30 }));
    await again.drained();
    await again.close();
    assert.ok((await knownDigests(place, primary)) > 20);
    for (const [disk, { target }] of primary.disks.entries()) {
      const { ino } = await stat(image(target));
      await restoreInPlace(join(place.directory, target), image(target));
      assert.equal((await stat(image(target))).ino, ino);
      older[disk]!.copy(primary.bytes[disk]!);
    }
    assert.equal(await knownDigests(place, primary), 0);
    const restored = await Replica.open(place.options);
    assert.equal(await compareDigests(restored, primary), undefined);
    await restored.close();
  });

  void test('what is kept is not believed where the disk is to be read, and right from then on', async () => {
    await (await replicaThatKnows()).close();
    const [{ target, size }] = primary.disks as [{ target: string; size: number }];
    const file = await openImageDigests(digests(target), { path: image(target), size });
    await file.write([{ from: 3, digests: Buffer.alloc(2 * DIGEST_SIZE, 7) }]);
    await closeImageDigests(file, { path: image(target) });
    const replica = await Replica.open(place.options);
    assert.equal(await compareDigests(replica, primary), `${target}, block 3`);
    await replica.questions.digests({ target, from: 0, count: 10, reread: true });
    assert.equal(await compareDigests(replica, primary), undefined);
    await replica.close();
    await knownDigests(place, primary);
  });

  void test('a disk that somebody writes while the daemon is off is told of; one that nobody wrote, or whose owner changed, is not', async () => {
    await (await replicaThatKnows()).close();
    const told: string[] = [];
    const reopen = async () => {
      const replica = await Replica.open({ ...place.options, onDamage: (text) => told.push(text) });
      await send(replica, await primary.log({ changes: 4 }));
      await replica.close();
    };
    await reopen();
    for (const { target } of primary.disks) await chmod(image(target), 0o600);
    await reopen();
    assert.deepEqual(told, []);
    await promisify(execFile)('qemu-io', ['-f', 'qcow2', '-c', 'write -P 119 64k 64k', image('vda')]);
    await reopen();
    assert.equal(told.length, 1);
    assert.match(told[0]!, /^disk vda of the replica was written .*replication resync/);
    await reopen();
    assert.equal(told.length, 1);
  });

  for (const call of ['writev', 'datasync', 'read'] as const) {
    void test(`a file for which ${call} fails is given up, whole: nothing of it is believed later`, async (t) => {
      const replica = await replicaThatKnows();
      const failing = await failFor(t, call, /\.digests$/);
      await send(replica, await primary.log({ changes: 12 }));
      await replica.drained();
      assert.equal(await compareDigests(replica, primary), undefined);
      assert.ok(failing.mock.callCount() > 0);
      for (const { target } of primary.disks) await assert.rejects(stat(digests(target)), { code: 'ENOENT' });
      failing.mock.restore();
      await send(replica, await primary.log({ changes: 12 }));
      await replica.close();
      const again = await Replica.open(place.options);
      await again.drained();
      assert.equal(await compareDigests(again, primary), undefined);
      await again.close();
      assert.ok((await knownDigests(place, primary)) > 20);
    });
  }
});

/** From now on that call of files with such a path fails. */
async function failFor(t: TestContext, call: 'writev' | 'datasync' | 'read', path: RegExp) {
  const handle = await open('/dev/null');
  const files = Object.getPrototypeOf(handle) as Record<typeof call, (...args: unknown[]) => Promise<unknown>>;
  await handle.close();
  const real = files[call];
  return t.mock.method(files, call, async function fails(this: FileHandle, ...args: unknown[]) {
    if (!path.test(await readlink(`/proc/self/fd/${this.fd}`))) return await real.apply(this, args);
    throw Object.assign(new Error('a broken device'), { code: 'EIO' });
  });
}
