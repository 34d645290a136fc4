import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scratchClient, scratchDaemon, scratchDisk, KiB, MiB, pattern, seededRandom } from '../testing.ts';
import { NbdClient } from './client.ts';
import { ALLOCATION, BASE_ALLOCATION } from './wire.ts';

const CLUSTER = 64 * KiB;

for (const format of ['qcow2', 'raw'] as const) {
  test(`random writes, zeros, trims and reads on ${format} are those of a byte array`, async (t) => {
    const place = await scratchDaemon(t);
    const size = 8 * MiB;
    await scratchDisk(place, 'disk', size, format);
    const client = await scratchClient(t, place.daemon, 'disk');
    const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32);
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    const model = Buffer.alloc(size);
    const range = (unit: number, most: number): [number, number] => {
      const offset = random(size / unit) * unit;
      return [offset, Math.min(size - offset, (1 + random(most / unit)) * unit)];
    };
    for (let round = 0; round < 60; round++) {
      const [at, length] = range(round % 2 === 0 ? 1 : 512, 700 * KiB);
      const kind = random(4);
      if (kind <= 1) {
        const data = pattern(length, round);
        await client.write(at, data, { fua: kind === 1 });
        data.copy(model, at);
      } else if (kind === 2) {
        await client.writeZeroes(at, length, { mayUnmap: random(2) === 0 });
        model.fill(0, at, at + length);
      } else {
        const [from, trimmed] = range(CLUSTER, 512 * KiB); // whole clusters: those both formats read as zeros afterwards
        await client.trim(from, trimmed);
        model.fill(0, from, from + trimmed);
      }
      const reads = Array.from({ length: 12 }, () => range(1, 900 * KiB));
      await Promise.all(
        reads.map(async ([offset, count]) => {
          const read = await client.read(offset, count);
          assert.ok(read.equals(model.subarray(offset, offset + count)), `round ${round}: ${count} bytes at ${offset}`);
        }),
      );
    }
    await client.flush();
    const holes = await client.extents(BASE_ALLOCATION, 0, size);
    assert.equal(
      holes.reduce((sum, extent) => sum + extent.length, 0),
      size,
    );
    for (const { offset, length, flags } of holes) {
      if ((flags & ALLOCATION.zero) === 0) continue;
      assert.ok(
        model.subarray(offset, offset + length).every((byte) => byte === 0),
        `zero extent at ${offset}`,
      );
    }
    assert.ok((await client.read(0, size)).equals(model));
  });
}

test('reads and writes above the largest block are split and put together', async (t) => {
  const place = await scratchDaemon(t);
  const size = 70 * MiB + 512;
  await scratchDisk(place, 'disk', size, 'raw');
  const client = await scratchClient(t, place.daemon, 'disk');
  assert.equal(client.maxBlock, 32 * MiB);
  const data = Buffer.concat([pattern(35 * MiB, 1), pattern(35 * MiB, 2), pattern(512, 3)]);
  await client.write(0, data);
  assert.ok((await client.read(0, size)).equals(data));
  const target = Buffer.alloc(40 * MiB, 0xee);
  await client.readInto(target.subarray(1, 33 * MiB + 1), 7);
  assert.equal(target[0], 0xee);
  assert.equal(target[33 * MiB + 1], 0xee);
  assert.ok(target.subarray(1, 33 * MiB + 1).equals(data.subarray(7, 33 * MiB + 7)));
});

test('a read fills holes over what the memory held before', async (t) => {
  const place = await scratchDaemon(t);
  await scratchDisk(place, 'disk', MiB);
  const client = await scratchClient(t, place.daemon, 'disk');
  await client.write(CLUSTER, pattern(CLUSTER, 5));
  const target = Buffer.alloc(MiB, 0xee);
  await client.readInto(target, 0);
  const expected = Buffer.alloc(MiB);
  pattern(CLUSTER, 5).copy(expected, CLUSTER);
  assert.ok(target.equals(expected));
});

test('a dirty bitmap and the allocation, each by its own lengths', async (t) => {
  const place = await scratchDaemon(t);
  const { daemon } = place;
  const size = 64 * MiB;
  await scratchDisk(place, 'disk', size);
  const writer = await scratchClient(t, daemon, 'disk');
  for (let at = 0; at < size; at += 2 * CLUSTER) await writer.write(at, pattern(CLUSTER, at));
  await daemon.qmp.execute('block-dirty-bitmap-add', { node: 'disk', name: 'b', granularity: CLUSTER });
  const dirty = [3, 4, 5, 200, 1023].map((cluster) => cluster * CLUSTER);
  for (const at of dirty) await writer.write(at + 100, pattern(10, 1));
  await daemon.closeExport('disk');
  await daemon.qmp.execute('block-dirty-bitmap-disable', { node: 'disk', name: 'b' });
  await daemon.exportNode({ node: 'disk', exportName: 'point', writable: false, bitmaps: ['b'] });

  const context = 'qemu:dirty-bitmap:b';
  const reader = await scratchClient(t, daemon, 'point', [BASE_ALLOCATION, context]);
  const found = (await reader.extents(context, 0, size)).filter(({ flags }) => flags === 1);
  assert.deepEqual(
    found.map(({ offset, length }) => [offset / CLUSTER, length / CLUSTER]),
    [
      [3, 3],
      [200, 1],
      [1023, 1],
    ],
  );
  const bitmap = await reader.extents(context, CLUSTER / 2, size - CLUSTER);
  const allocation = await reader.extents(BASE_ALLOCATION, CLUSTER / 2, size - CLUSTER);
  for (const map of [bitmap, allocation]) {
    assert.equal(map[0]!.offset, CLUSTER / 2);
    assert.equal(map.at(-1)!.offset + map.at(-1)!.length, size - CLUSTER / 2);
  }
  assert.deepEqual(allocation, await reader.extents(BASE_ALLOCATION, CLUSTER / 2, size - CLUSTER));
  assert.equal(allocation.length, 1019); // 1,024 clusters by turns; the writes made one run of 2 to 6, and of 1022 to 1023
  assert.equal(reader.readOnly, true);
  await assert.rejects(reader.write(0, Buffer.alloc(512)), {
    code: 'io',
    message: /write of 512 bytes at 0: EINVAL, Export is read-only/,
  });
});

test('a refused connection says why', async (t) => {
  const place = await scratchDaemon(t);
  const { daemon } = place;
  await scratchDisk(place, 'disk', MiB);
  const at = { socketPath: daemon.nbdSocket };
  await assert.rejects(NbdClient.connect({ ...at, exportName: 'other' }), { code: 'not-found', message: /"other"/ });
  await assert.rejects(NbdClient.connect({ ...at, exportName: 'disk', metaContexts: ['qemu:dirty-bitmap:b'] }), {
    code: 'not-found',
    message: /no meta context qemu:dirty-bitmap:b/,
  });
  await assert.rejects(NbdClient.connect({ socketPath: `${place.directory}/none`, exportName: 'disk' }), {
    code: 'unreachable',
  });
  const client = await scratchClient(t, daemon, 'disk');
  for (const [offset, length] of [
    [MiB, 1],
    [-1, 1],
    [0.5, 1],
    [0, MiB + 1],
    [Number.NaN, 1],
  ] as const) {
    await assert.rejects(client.read(offset, length), { code: 'internal', message: /doesn't lie in/ });
  }
});

test('a server that dies fails everything in flight, and whatever comes later', async (t) => {
  const place = await scratchDaemon(t);
  await scratchDisk(place, 'disk', 64 * MiB, 'raw');
  const client = await scratchClient(t, place.daemon, 'disk');
  const data = pattern(MiB, 1);
  const ends = Array.from({ length: 64 }, async (_, i) => client.write(i * MiB, data));
  const all = Promise.allSettled(ends);
  assert.equal(client.inFlight, 64);
  await Promise.race(ends); // the first has come back, the others are on their way
  await place.daemon.kill();
  const results = await all;
  const failed = results.filter((end) => end.status === 'rejected');
  assert.ok(failed.length > 0, 'something was in flight');
  for (const { reason } of failed) assert.equal(reason.code, 'interrupted');
  await client.closed;
  assert.equal(client.inFlight, 0);
  await assert.rejects(client.read(0, 512), { code: 'interrupted' });
});

test('closing waits for what is under way', async (t) => {
  const place = await scratchDaemon(t);
  await scratchDisk(place, 'disk', 16 * MiB);
  const client = await scratchClient(t, place.daemon, 'disk');
  const writes = Array.from({ length: 16 }, (_, i) => client.write(i * MiB, pattern(MiB, i)));
  await Promise.all([client.close(), ...writes]);
  await assert.rejects(client.flush(), { code: 'interrupted', message: /this side closed/ });
  const again = await scratchClient(t, place.daemon, 'disk');
  assert.ok((await again.read(5 * MiB, MiB)).equals(pattern(MiB, 5)));
});

test('a full disk is no-space, and the connection goes on', async (t) => {
  const place = await scratchDaemon(t);
  const { daemon } = place;
  await scratchDisk(place, 'disk', MiB, 'raw');
  await daemon.closeExport('disk'); // a node has one writer
  await daemon.qmp.execute('blockdev-add', {
    driver: 'blkdebug',
    'node-name': 'full',
    image: 'disk',
    'inject-error': [{ event: 'none', iotype: 'write', errno: 28 }],
  });
  await daemon.exportNode({ node: 'full', exportName: 'full', writable: true });
  const client = await scratchClient(t, daemon, 'full');
  await assert.rejects(client.write(0, Buffer.alloc(4096, 1)), {
    code: 'no-space',
    message: /write of 4096 bytes at 0: ENOSPC/,
  });
  assert.equal((await client.read(0, 4096)).length, 4096);
});
