import assert from 'node:assert/strict';
import { test } from 'node:test';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Failure } from '../../src/model/failure.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';
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
    const looking = new Looking(join(place.options.runDirectory, 'disks.nbd'), primary.disks.at(-1)!.target);
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
    t.diagnostic(`${kills} kills, the last disk looked for ${await looking.end()} times`);
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

/** Looks for an export all the time. A daemon that isn't there is no news; one that says it has no such export would be. */
class Looking {
  readonly #done: Promise<number>;
  #over = false;

  constructor(socketPath: string, exportName: string) {
    this.#done = this.#look(socketPath, exportName);
    this.#done.catch(() => undefined); // `end` tells
  }

  async end(): Promise<number> {
    this.#over = true;
    return await this.#done;
  }

  async #look(socketPath: string, exportName: string): Promise<number> {
    let times = 0;
    for (; !this.#over; times++) {
      try {
        await (await NbdClient.connect({ socketPath, exportName })).close();
      } catch (error) {
        if (!(error instanceof Failure) || error.code === 'not-found') throw error;
      }
      await delay(1);
    }
    return times;
  }
}
