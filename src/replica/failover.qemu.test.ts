import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { digest } from '../lib/digest.ts';
import { run } from '../lib/process.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';
import { StorageDaemon } from '../qemu/storage-daemon.ts';
import { compareImages } from '../qemu/image.ts';
import { compareWithPoint, newPlace, newReplica, send, type Place } from '../../test/faults/replica-host.ts';
import { difference, newSeed, readDisks, TestPrimary } from '../../test/faults/replica-primary.ts';
import { Replica } from './replica.ts';

void describe('a replica with some points', () => {
  let place: Place;
  let replica: Replica;
  let primary: TestPrimary;

  before(async () => {
    const seed = newSeed();
    process.stdout.write(`# SEED=${seed}\n`);
    primary = new TestPrimary(seed);
    place = await newPlace();
    replica = await Replica.create(place.options, newReplica(primary));
    for (let i = 0; i < 12; i++) await send(replica, await primary.log({ changes: 8 }));
    await replica.drained();
  });

  after(async () => {
    await replica.close();
    await place.clear();
  });

  /** What a set of overlays reads as. */
  async function readOverlays(overlays: ReadonlyMap<string, string>): Promise<Buffer[]> {
    const daemon = await StorageDaemon.start({ directory: join(place.directory, 'run'), name: 'check' });
    try {
      for (const [target, path] of overlays) {
        await daemon.openImage({ node: target, path, format: 'qcow2', readOnly: true });
        await daemon.exportNode({ node: target, exportName: target, writable: false });
      }
      return await readDisks(daemon.nbdSocket, primary.disks);
    } finally {
      await daemon.stop();
    }
  }

  function overlaysOf(name: string): Map<string, string> {
    return new Map(primary.disks.map(({ target }) => [target, join(place.directory, `${name}-${target}.qcow2`)]));
  }

  void test('gives digests of its blocks, the short last one too', async () => {
    for (const [i, { target, size }] of primary.disks.entries()) {
      const blocks = Math.ceil(size / DIGEST_BLOCK);
      const wanted = Array.from({ length: blocks }, (_, block) =>
        digest(primary.bytes[i]!.subarray(block * DIGEST_BLOCK, (block + 1) * DIGEST_BLOCK)),
      );
      const all = await replica.questions.digests({ target, from: 0, count: blocks });
      assert.ok(Buffer.concat(wanted).equals(all));
      const some = await replica.questions.digests({ target, from: 2, count: 3 });
      assert.ok(all.subarray(2 * DIGEST_BYTES, 5 * DIGEST_BYTES).every((byte, at) => byte === some[at]));
      // A primary whose disk has grown asks beyond the end: nothing is known there.
      const beyond = await replica.questions.digests({ target, from: blocks - 1, count: 3 });
      assert.ok(Buffer.concat([wanted.at(-1)!, Buffer.alloc(2 * DIGEST_BYTES)]).equals(beyond));
    }
    // A disk that was added there comes with the next log.
    const added = await replica.questions.digests({ target: 'vdz', from: 0, count: 2 });
    assert.ok(Buffer.alloc(2 * DIGEST_BYTES).equals(added));
  });

  void test('shows a view to qemu-img as to us, holes included', async () => {
    const view = await replica.openView(5);
    try {
      for (const [i, { target }] of primary.disks.entries()) {
        const copy = join(place.directory, `copy-${target}.raw`);
        const source = `nbd+unix:///${target}?socket=${view.socketPath}`;
        const { code, stderr } = await run('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', source, copy]);
        assert.equal(code, 0, stderr);
        const { readFile } = await import('node:fs/promises');
        assert.ok((await readFile(copy)).equals(primary.states.get(5)![i]!));
      }
      assert.equal((await stat(view.socketPath)).mode & 0o777, 0o600);
    } finally {
      await view.close();
      await view.close();
    }
  });

  void test('materialises any point on frozen disks, byte for byte, and lets the disks alone', async () => {
    await assert.rejects(replica.materialise(5, overlaysOf('x')), { code: 'wrong-state' });
    await replica.freeze();
    await assert.rejects(replica.openView(5), { code: 'wrong-state' });
    for (const sequence of [1, 5, 11, 12]) {
      const overlays = overlaysOf(`p${sequence}`);
      await replica.materialise(sequence, overlays);
      assert.equal(difference(await readOverlays(overlays), primary.states.get(sequence)!), undefined);
    }
    for (const { target, path } of replica.disks) {
      const overlay = join(place.directory, `p12-${target}.qcow2`);
      const { identical } = await compareImages({ path, format: 'qcow2' }, { path: overlay, format: 'qcow2' });
      assert.ok(identical, 'overlays on the latest state are empty');
    }
    await assert.rejects(replica.materialise(5, overlaysOf('p5')), { code: 'already-exists' });
    await assert.rejects(replica.materialise(99, overlaysOf('p99')), { code: 'not-found' });
    await replica.thaw();
    await send(replica, await primary.log());
    await replica.drained();
    for (const { sequence } of replica.points()) {
      assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
    }
  });

  void test('while frozen nobody has the disks open, and digests are refused', async () => {
    await replica.freeze();
    await replica.close();
    replica = await Replica.open(place.options); // the daemon is restarted while the VM runs here
    assert.ok(replica.frozen);
    assert.equal(await replica.enginePid(), undefined);
    for (const { path } of replica.disks) {
      const { code, stderr } = await run('qemu-io', ['-f', 'qcow2', '-c', 'read 0 512', path]);
      assert.equal(code, 0, stderr); // takes the image's lock
    }
    await assert.rejects(replica.questions.digests({ target: 'vda', from: 0, count: 1 }), { code: 'wrong-state' });
    await replica.thaw();
  });

  void test('a process that died between the word and the disks: the next one takes them away all the same', async () => {
    await replica.freeze();
    await replica.close();
    const left = await StorageDaemon.start({ directory: place.options.runDirectory, name: 'disks' });
    for (const { target, path } of replica.disks)
      await left.openImage({ node: target, path, format: 'qcow2', readOnly: false });
    replica = await Replica.open(place.options);
    assert.ok(replica.frozen);
    await replica.freeze();
    for (const { path } of replica.disks) {
      const { code, stderr } = await run('qemu-io', ['-f', 'qcow2', '-c', 'read 0 512', path]);
      assert.equal(code, 0, stderr); // takes the image's lock
    }
    await replica.thaw();
  });

  void test('counting from a later position keeps its older points, also after a restart', async () => {
    const before = replica.points();
    const start = { epoch: 3, sequence: 20, state: 'c'.repeat(32) };
    await assert.rejects(replica.rebase({ ...start, sequence: 2 }), { code: 'not-following' });
    await replica.rebase(start);
    assert.deepEqual(replica.points(), before);
    assert.deepEqual(replica.status(), { epoch: 3, received: start, applied: start });
    const state = primary.states.get(primary.position.sequence)!;
    primary.position = start;
    primary.states.set(20, state);
    await send(replica, await primary.log({ point: false }));
    await replica.close();
    replica = await Replica.open(place.options);
    await send(replica, await primary.log());
    await replica.drained();
    assert.deepEqual(
      replica.points().map(({ sequence }) => sequence),
      [22, ...before.map(({ sequence }) => sequence)],
    );
    for (const { sequence } of replica.points()) {
      assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
    }
  });

  void test('a failover gives the state of the same number a new epoch', async () => {
    const start = { ...primary.position, epoch: 4, state: 'd'.repeat(32) };
    await replica.rebase(start);
    primary.position = start;
    await send(replica, await primary.log());
    await replica.close();
    replica = await Replica.open(place.options);
    await replica.drained();
    for (const { sequence } of replica.points()) {
      assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
    }
    assert.equal(replica.points()[0]!.epoch, 4);
  });
});
