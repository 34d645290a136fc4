import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkImage } from '../../src/qemu/image.ts';
import { StorageDaemon } from '../../src/qemu/storage-daemon.ts';
import { Replica } from '../../src/replica/replica.ts';
import { IN_MATERIALISING } from './crash-points.ts';
import type { WhoDies } from './dying.ts';
import { compareWithPoint, newPlace, newReplica, send, type Place } from './replica-host.ts';
import { difference, newSeed, readDisks, TestPrimary } from './replica-primary.ts';

async function materialise(
  place: Place,
  primary: TestPrimary,
  sequence: number,
  crash?: string,
  dies: WhoDies = 'daemon',
) {
  const { directory, runDirectory } = place.options;
  const script = join(import.meta.dirname, 'replica-materialise.ts');
  const targets = primary.disks.map(({ target }) => target);
  const child = spawn(process.execPath, [script, directory, runDirectory, String(sequence), ...targets], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DIES: dies, ...(crash === undefined ? {} : { UNDERSTUDY_CRASH: crash }) },
  });
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  if (crash === undefined) assert.equal(code, 0);
  else if (dies !== 'engine') assert.equal(signal, 'SIGKILL', `${crash} was never reached`);
  else assert.equal(signal, null); // it may have failed: that its overlays weren't flushed must not be overlooked
  return code;
}

async function readOverlays(place: Place, primary: TestPrimary): Promise<Buffer[]> {
  const daemon = await StorageDaemon.start({ directory: join(place.directory, 'run'), name: 'check' });
  try {
    for (const { target } of primary.disks) {
      const path = `${place.options.directory}-${target}.qcow2`;
      assert.equal((await checkImage(path)).corruptions, 0);
      await daemon.openImage({ node: target, path, format: 'qcow2', readOnly: true });
      await daemon.exportNode({ node: target, exportName: target, writable: false });
    }
    return await readDisks(daemon.nbdSocket, primary.disks);
  } finally {
    await daemon.stop();
  }
}

void test('a crash at any step of materialising a point is mended by doing it again, and harms no point', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  try {
    let replica = await Replica.create(
      place.options,
      newReplica(primary, { history: 2, thin: [{ everySeconds: 3, count: 9 }] }),
    );
    for (let i = 0; i < 10; i++) await send(replica, await primary.log({ changes: 6 }));
    await replica.drained();
    await replica.merged();
    const points = replica.points();
    const { sequence } = points.at(-1)!;
    await replica.close();
    for (const crash of IN_MATERIALISING) {
      await materialise(place, primary, sequence, crash, primary.between(0, 1) === 0 ? 'daemon' : 'both');
      const code = await materialise(place, primary, sequence, crash, 'engine');
      if (code !== 0) await materialise(place, primary, sequence);
      assert.equal(difference(await readOverlays(place, primary), primary.states.get(sequence)!), undefined, crash);
      await materialise(place, primary, sequence, crash); // what it leaves goes with a cancelled failover
      for (const { target } of primary.disks) await rm(`${place.options.directory}-${target}.qcow2`, { force: true });
      replica = await Replica.open(place.options);
      assert.ok(replica.frozen);
      await replica.thaw();
      assert.deepEqual(replica.points(), points);
      for (const point of points) {
        assert.equal(await compareWithPoint(replica, primary, point.sequence), undefined, `point ${point.sequence}`);
      }
      await replica.close();
      for (const { target } of primary.disks) {
        const image = join(place.options.directory, 'disks', `${target}.qcow2`);
        assert.equal((await checkImage(image)).corruptions, 0);
      }
    }
  } finally {
    await place.clear();
  }
});
