import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Replica } from '../../src/replica/replica.ts';
import { compareWithPoint, knownDigests, newPlace, newReplica, send } from './replica-host.ts';
import { difference, newSeed, readDisks, TestPrimary } from './replica-primary.ts';

void test('kill -9 of the storage daemon while it applies: applying goes on, views wait, no byte is wrong', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary, { history: 100 }));
  try {
    await send(replica, await primary.log({ changes: 20 }));
    await replica.drained();
    const view = await replica.openView(1);
    let kills = 0;
    for (let i = 0; i < 12; i++) {
      const logs = [await primary.log({ changes: 12 }), await primary.log({ changes: 12 })];
      for (const log of logs) await send(replica, log);
      const reading = readDisks(view.socketPath, primary.disks);
      await delay(primary.between(0, 40));
      const pid = await replica.enginePid();
      if (pid !== undefined) {
        process.kill(pid, 'SIGKILL');
        kills++;
      }
      assert.equal(difference(await reading, primary.states.get(1)!), undefined);
      await replica.drained();
      assert.equal(replica.failure, null);
    }
    t.diagnostic(`${kills} kills`);
    assert.ok(kills >= 6);
    for (const { sequence } of replica.points()) {
      assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
    }
    assert.equal(replica.points().length, 25);
    // What is known of the disks was kept through all of it, and is true.
    await replica.close();
    assert.ok((await knownDigests(place, primary)) > 10);
  } finally {
    await replica.close();
    await place.clear();
  }
});
