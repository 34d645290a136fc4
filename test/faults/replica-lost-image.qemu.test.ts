/** An image of a replica that nobody can read any more: it is made anew, no point of before is ever shown, and replication goes on. */
import assert from 'node:assert/strict';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { until } from '../../src/lib/clock.ts';
import { asFailure } from '../../src/model/failure.ts';
import { checkImage } from '../../src/qemu/image.ts';
import { Replica } from '../../src/replica/replica.ts';
import { IN_MAKING_ANEW } from './crash-points.ts';
import { compareDigests, compareWithPoint, newPlace, newReplica, send, type Place } from './replica-host.ts';
import { newSeed, readDisks, TestPrimary } from './replica-primary.ts';
import { runReplica } from './run-replica.ts';

const LOGS = 3;

const imageOf = ({ options }: Place, target: string): string => join(options.directory, 'disks', `${target}.qcow2`);

/** From now on it is no image any more. */
async function destroyHeader(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(Buffer.alloc(512, 0xe5), 0, 512, 0);
  } finally {
    await file.close();
  }
}

async function withPoints(place: Place, primary: TestPrimary, told: string[] = []): Promise<Replica> {
  const options = { ...place.options, onDamage: (text: string) => void told.push(text) };
  const replica = await Replica.create(options, newReplica(primary, { history: 8 }));
  for (let i = 0; i < LOGS; i++) await send(replica, await primary.log({ changes: 6 }));
  await replica.drained();
  return replica;
}

/** The primary's first disk is as empty as the replica's, and it counts on from where the replica stands. */
function follow(primary: TestPrimary, replica: Replica): void {
  primary.position = replica.status().received;
  primary.bytes = primary.bytes.map((bytes, disk) => (disk === 0 ? Buffer.alloc(bytes.length) : bytes));
}

void test('an image without its header is made anew by a scrub: views end, points are told as lost, the other disk stays', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  const told: string[] = [];
  const replica = await withPoints(place, primary, told);
  try {
    const { target } = primary.disks[0]!;
    const path = imageOf(place, target);
    const before = await stat(path);
    const view = await replica.openView(primary.position.sequence - 1);
    await destroyHeader(path);
    await replica.scrub.begin(Date.now());
    while (!(await replica.scrub.step(Date.now(), t.signal)).done);
    assert.equal(told.length, 1, told.join('\n'));
    assert.match(told[0]!, new RegExp(`^the image of ${target} can not be read any more: .* recovery points 3, 2, 1`));
    assert.deepEqual(replica.points(), []);
    await assert.rejects(readDisks(view.socketPath, primary.disks), 'what it showed is gone');
    const now = await stat(path);
    assert.deepEqual([now.mode, now.uid], [before.mode, before.uid]);
    assert.deepEqual(await readdir(join(replica.directory, 'undo')), []);
    assert.ok((await readdir(join(replica.directory, 'damaged'))).includes(`${target}.qcow2`), 'for who can mend it');
    assert.notEqual(replica.status().received.state, primary.position.state, 'the primary finds another state');
    follow(primary, replica);
    assert.equal(await compareDigests(replica, primary), undefined);
    await send(replica, await primary.log({ changes: 4 }));
    await replica.drained();
    const { sequence } = replica.points()[0]!;
    assert.equal(await compareWithPoint(replica, primary, sequence), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('a crash while an image is made anew leaves nothing that could be taken for a point', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  try {
    await (await withPoints(place, primary)).close();
    for (const crash of IN_MAKING_ANEW) {
      const { target } = primary.disks[0]!;
      await destroyHeader(imageOf(place, target));
      const before = primary.position;
      const log = await primary.log({ changes: 4 });
      primary.goBack(before); // it is given up with all that the replica had
      assert.equal(await runReplica(place, log, { crash, dies: 'both' }), 'SIGKILL', `${crash} was never reached`);
      const replica = await Replica.open(place.options);
      try {
        assert.deepEqual(replica.points(), [], crash);
        const question = { target, from: 0, count: 1 };
        let said = '';
        const isAnswered = async (): Promise<boolean> => {
          try {
            await replica.questions.digests(question);
            return true;
          } catch (error) {
            said = asFailure(error, 'io').message;
            return false;
          }
        };
        await until(isAnswered, {
          timeoutMs: 60_000,
          onTimeout: () => new Error(`after ${crash} the disks can't be read: ${said}`),
        });
        assert.deepEqual(replica.points(), [], crash);
        follow(primary, replica);
        assert.equal(await compareDigests(replica, primary), undefined, crash);
        await send(replica, await primary.log({ changes: 4 }));
        await replica.drained();
        const { sequence } = replica.points()[0]!;
        assert.equal(await compareWithPoint(replica, primary, sequence), undefined, crash);
      } finally {
        await replica.close();
      }
      assert.deepEqual(await checkImage(imageOf(place, target)), { corruptions: 0, leaks: 0 });
    }
  } finally {
    await place.clear();
  }
});
