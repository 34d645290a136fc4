/** Disks that are resized and added while there are older points, open views and crashes: every point keeps its shape and its bytes. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { newPlace, newReplica, send } from '../../test/faults/replica-host.ts';
import { difference, newSeed, readDisks, TestPrimary } from '../../test/faults/replica-primary.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { convertImage } from '../qemu/image.ts';
import { NbdClient } from '../qemu/nbd/client.ts';
import { Replica } from './replica.ts';
import type { View } from './views.ts';

/** What the primary's disks were after each log. */
type Shapes = Map<number, readonly ReplicatedDisk[]>;

async function assertView(view: View, shape: readonly ReplicatedDisk[], primary: TestPrimary): Promise<void> {
  for (const { target, size } of shape) {
    const client = await NbdClient.connect({ socketPath: view.socketPath, exportName: target });
    assert.equal(client.size, size, `${target} at point ${view.sequence}`);
    await client.close();
  }
  const held = await readDisks(view.socketPath, shape);
  assert.equal(difference(held, primary.states.get(view.sequence)!), undefined, `point ${view.sequence}`);
}

async function assertPoints(replica: Replica, shapes: Shapes, primary: TestPrimary): Promise<void> {
  for (const { sequence } of replica.points()) {
    assert.deepEqual(replica.disksAt(sequence).map(shapeOnly), shapes.get(sequence));
    const view = await replica.openView(sequence);
    await assertView(view, shapes.get(sequence)!, primary);
    await view.close();
  }
}

const shapeOnly = ({ target, size }: ReplicatedDisk): ReplicatedDisk => ({ target, size });

/** One disk becomes longer or shorter, not by whole blocks; now and then there is one more. */
function another(primary: TestPrimary): ReplicatedDisk[] {
  const disks = primary.disks.map(shapeOnly);
  if (primary.between(0, 2) === 0 && disks.length < 5) {
    const target = `vd${String.fromCharCode('a'.charCodeAt(0) + disks.length)}`;
    return [...disks, { target, size: 512 * primary.between(1, 1200) }];
  }
  const at = primary.between(0, disks.length - 1);
  return disks.map((disk, i) => (i === at ? { ...disk, size: 512 * primary.between(300, 3000) } : disk));
}

void test('every point has the shape and the bytes that the primary had then', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  let replica = await Replica.create(place.options, newReplica(primary, { history: 100 }));
  const shapes: Shapes = new Map();
  try {
    await send(replica, await primary.log({ changes: 20 }));
    shapes.set(1, primary.disks.map(shapeOnly));
    await replica.drained();
    const held = await replica.openView(1); // over everything that becomes of the disks
    for (let i = 0; i < 10; i++) {
      if (i % 2 === 0) primary.reshape(another(primary));
      // Also logs that say nothing but the shape, and several that wait.
      // Some are slices of a copy, as of a disk that was added: they make no point.
      const made = await primary.log({ point: i % 5 !== 2, ...(i % 4 === 0 ? { changes: 0, refers: false } : {}) });
      shapes.set(made.sequence, primary.disks.map(shapeOnly));
      await send(replica, made);
    }
    await replica.drained();
    await assertPoints(replica, shapes, primary);
    await assertView(held, shapes.get(1)!, primary);
    await held.close();

    await replica.close();
    replica = await Replica.open(place.options);
    assert.deepEqual(replica.disks.map(shapeOnly), primary.disks.map(shapeOnly));
    await assertPoints(replica, shapes, primary);

    await replica.freeze();
    for (const { sequence } of replica.points().filter((_, i) => i % 4 === 0)) {
      const overlays = new Map(
        shapes.get(sequence)!.map(({ target }) => [target, join(place.directory, `${sequence}-${target}.qcow2`)]),
      );
      await replica.materialise(sequence, overlays);
      const images: Buffer[] = [];
      for (const path of overlays.values()) {
        await convertImage({ path, format: 'qcow2' }, { path: `${path}.raw`, format: 'raw' });
        images.push(await readFile(`${path}.raw`));
      }
      const wanted = primary.states.get(sequence)!;
      assert.deepEqual(
        images.map(({ length }) => length),
        wanted.map(({ length }) => length),
      );
      assert.equal(difference(images, wanted), undefined, `materialised point ${sequence}`);
    }
  } finally {
    await replica.close();
    await place.clear();
  }
});
