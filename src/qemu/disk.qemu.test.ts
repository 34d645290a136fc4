import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChangedExtent } from '../model/extent.ts';
import { allExtents, dirtyExtents, readPieces, withHoles } from './disk.ts';
import { BASE_ALLOCATION } from './nbd/wire.ts';
import { KiB, MiB, pattern, scratchClient, scratchDaemon, scratchDisk } from './testing.ts';

const CLUSTER = 64 * KiB;

test('a dirty hole is a zero run, clean data is left out, all is cut at the range', async (t) => {
  const place = await scratchDaemon(t);
  const { daemon } = place;
  await scratchDisk(place, 'disk', 16 * MiB);
  const writer = await scratchClient(t, daemon, 'disk');
  await writer.write(0, pattern(8 * MiB, 1));
  await daemon.qmp.execute('block-dirty-bitmap-add', { node: 'disk', name: 'b', granularity: CLUSTER });
  await writer.write(MiB, pattern(CLUSTER, 2));
  await writer.trim(2 * MiB, 3 * MiB);
  await writer.writeZeroes(12 * MiB, MiB, { mayUnmap: true });
  await daemon.closeExport('disk');
  await daemon.qmp.execute('block-dirty-bitmap-disable', { node: 'disk', name: 'b' });
  await daemon.exportNode({ node: 'disk', exportName: 'point', writable: false, bitmaps: ['b'] });
  const context = 'qemu:dirty-bitmap:b';
  const client = await scratchClient(t, daemon, 'point', [context, BASE_ALLOCATION]);

  const changed = async (from: number, to: number, reader = client) =>
    await withHoles(reader, await dirtyExtents(client, context, from, to));
  assert.deepEqual(await changed(0, 16 * MiB), [
    { offset: MiB, length: CLUSTER, zero: false },
    { offset: 2 * MiB, length: 3 * MiB, zero: true },
    { offset: 12 * MiB, length: MiB, zero: true },
  ]);
  assert.deepEqual(await changed(MiB + 100, 3 * MiB), [
    { offset: MiB + 100, length: CLUSTER - 100, zero: false },
    { offset: 2 * MiB, length: MiB, zero: true },
  ]);
  assert.deepEqual(await changed(5 * MiB, 12 * MiB), []);
  assert.deepEqual(await dirtyExtents(client, context, 5, 5), []);
  assert.deepEqual(await allExtents(client, 0, 16 * MiB), [
    { offset: 0, length: 2 * MiB, zero: false },
    { offset: 2 * MiB, length: 3 * MiB, zero: true },
    { offset: 5 * MiB, length: 3 * MiB, zero: false },
    { offset: 8 * MiB, length: 8 * MiB, zero: true },
  ]);
  assert.deepEqual(await allExtents(client, 5, 5), []);
  const unaware = await scratchClient(t, daemon, 'point', [context]);
  assert.deepEqual(await changed(12 * MiB, 16 * MiB, unaware), [{ offset: 12 * MiB, length: MiB, zero: false }]);
});

test('holes are asked for where the extents are, in not too many questions', async (t) => {
  const place = await scratchDaemon(t);
  await scratchDisk(place, 'disk', 1024 * 1024 * MiB);
  const client = await scratchClient(t, place.daemon, 'disk', [BASE_ALLOCATION]);
  const extents = Array.from({ length: 4096 }, (_, i) => ({ offset: i * 256 * MiB, length: CLUSTER }));
  for (const { offset } of extents.slice(0, 8)) await client.write(offset + 4 * KiB, pattern(8 * KiB, 3));
  const asked: number[] = [];
  const ask = client.extents.bind(client);
  client.extents = async (context, offset, length) => {
    asked.push(length);
    return await ask(context, offset, length);
  };
  const few = await withHoles(client, extents.slice(0, 16));
  assert.deepEqual(
    few.map(({ zero }) => zero),
    extents.slice(0, 16).map((_, i) => i >= 8),
  );
  assert.deepEqual(
    asked,
    Array.from({ length: 16 }, () => CLUSTER),
  );
  asked.length = 0;
  const many = await withHoles(client, extents);
  assert.deepEqual(many, [...few, ...extents.slice(16).map((extent) => ({ ...extent, zero: true }))]);
  assert.ok(asked.length <= 1025, `${asked.length} questions`);
});

for (const reuseMemory of [false, true]) {
  test(`pieces come in order and hold the disk's bytes, memory ${reuseMemory ? 'reused' : 'kept'}`, async (t) => {
    const place = await scratchDaemon(t);
    await scratchDisk(place, 'disk', 8 * MiB);
    const client = await scratchClient(t, place.daemon, 'disk');
    const content = Buffer.concat(Array.from({ length: 8 }, (_, i) => pattern(MiB, i)));
    await client.write(0, content);
    await client.trim(4 * MiB, 2 * MiB);
    content.fill(0, 4 * MiB, 6 * MiB);
    const scattered: ChangedExtent[] = Array.from({ length: 40 }, (_, i) => ({
      offset: 6 * MiB + i * 5000,
      length: 777,
      zero: false,
    }));
    const extents = [
      { offset: 100, length: 3 * MiB, zero: false },
      { offset: 4 * MiB, length: 2 * MiB, zero: true },
      ...scattered,
      { offset: 8 * MiB - 1, length: 1, zero: false },
    ];
    const pieceSize = 512 * KiB;
    const seen: { offset: number; length: number }[] = [];
    const memories = new Set<ArrayBufferLike>();
    let most = 0;
    for await (const piece of readPieces(client, extents, {
      pieceSize,
      inFlight: 3,
      ...(reuseMemory ? { memory: [] } : {}),
    })) {
      seen.push({ offset: piece.offset, length: piece.length });
      most = Math.max(most, client.inFlight);
      if (piece.zero) continue;
      memories.add(piece.data.buffer);
      assert.ok(piece.data.equals(content.subarray(piece.offset, piece.offset + piece.length)), `at ${piece.offset}`);
    }
    assert.deepEqual(
      seen.slice(0, 9).map(({ offset, length }) => [offset, length]),
      [
        [100, pieceSize - 100],
        ...[1, 2, 3, 4, 5].map((i) => [i * pieceSize, pieceSize]),
        [3 * MiB, 100],
        [4 * MiB, 2 * MiB],
        [6 * MiB, 777],
      ],
    );
    assert.equal(seen.length, 8 + 40 + 1);
    assert.ok(most <= 32, `${most} requests were under way`);
    if (reuseMemory) assert.ok(memories.size <= 33, `${memories.size} buffers`);
  });
}

test('a reader that stops early, or fails, leaves nothing under way', async (t) => {
  const place = await scratchDaemon(t);
  await scratchDisk(place, 'disk', 16 * MiB, 'raw');
  const client = await scratchClient(t, place.daemon, 'disk');
  const all = [{ offset: 0, length: 16 * MiB, zero: false }];
  await client.write(0, Buffer.alloc(16 * MiB, 1)); // holes would be answered all at once
  for await (const piece of readPieces(client, all)) {
    assert.equal(piece.length, MiB);
    break;
  }
  assert.equal(client.inFlight, 0);
  await assert.rejects(
    async () => {
      for await (const _ of readPieces(client, all)) await place.daemon.kill();
    },
    { code: 'interrupted' },
  );
});
