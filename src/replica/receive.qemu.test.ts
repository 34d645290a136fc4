import assert from 'node:assert/strict';
import { readdir, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { LogParser } from '../deltalog/parser.ts';
import { until } from '../lib/clock.ts';
import { compareWithPoint, newPlace, newReplica, send } from '../../test/faults/replica-host.ts';
import { inPieces, newSeed, TestPrimary, thenSilence, type MadeLog } from '../../test/faults/replica-primary.ts';
import { Replica } from './replica.ts';

/** Ends of the whole frames of a log. */
function boundaries(log: MadeLog): number[] {
  return [0, ...new LogParser().push(log.bytes)];
}

async function* cutOff(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield* inPieces(bytes, 10_000);
  throw new Error('connection reset');
}

void test('an upload that is cut anywhere goes on at the last whole frame', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  let replica = await Replica.create(place.options, newReplica(primary));
  try {
    for (let i = 0; i < 40; i++) {
      const log = await primary.log({ changes: 6 });
      const ends = boundaries(log);
      let offset = 0;
      for (let cuts = 0; cuts < 3; cuts++) {
        const cut = primary.between(offset, log.bytes.length - 1);
        const sent = log.bytes.subarray(offset, cut);
        // Ended too early, or broken: the same.
        await assert.rejects(replica.receive(log, offset, cuts === 1 ? cutOff(sent) : inPieces(sent)));
        if (i % 10 === 0) {
          await replica.close();
          replica = await Replica.open(place.options);
        }
        offset = await replica.durableOffset(log);
        assert.equal(
          offset,
          ends.findLast((end) => end <= cut),
          `cut at ${cut}`,
        );
      }
      await replica.receive(log, offset, inPieces(log.bytes.subarray(offset)));
      assert.equal(replica.status().received.sequence, log.sequence);
      assert.equal(await replica.durableOffset(log), log.bytes.length);
    }
    await replica.drained();
    assert.equal(await compareWithPoint(replica, primary, 40), undefined);
    assert.equal(await compareWithPoint(replica, primary, 17), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('a torn end of a part, as after a power loss, is cut off', async () => {
  const primary = new TestPrimary(3);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary));
  try {
    const log = await primary.log({ changes: 8 });
    const cut = log.bytes.length - 700;
    await assert.rejects(replica.receive(log, 0, inPieces(log.bytes.subarray(0, cut))), { code: 'interrupted' });
    const [name] = await readdir(join(place.options.directory, 'inbox'));
    const whole = await replica.durableOffset(log);
    await truncate(join(place.options.directory, 'inbox', name!), whole + 300); // zeros behind the last frame
    const offset = await replica.durableOffset(log);
    assert.ok(offset === whole || offset === 0, `offset ${offset}`);
    await replica.receive(log, offset, inPieces(log.bytes.subarray(offset)));
    await replica.drained();
    assert.equal(await compareWithPoint(replica, primary, 1), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('a log is acknowledged again, and one sent from further than it is there is not', async () => {
  const primary = new TestPrimary(4);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary));
  try {
    const log = await primary.log();
    await assert.rejects(replica.receive(log, 10, inPieces(log.bytes.subarray(10))), { code: 'interrupted' });
    await send(replica, log);
    await send(replica, log); // the answer got lost
    await replica.drained();
    await send(replica, log); // after it was applied
    await replica.close();
    const again = await Replica.open(place.options);
    await send(again, log);
    assert.equal(await again.durableOffset(log), log.bytes.length);
    assert.deepEqual(again.status().received, log.makes);
    await again.close();
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('another try at the same place makes the unfinished one worthless', async () => {
  const primary = new TestPrimary(5);
  const other = new TestPrimary(6);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary));
  try {
    const [log, rival] = [await primary.log({ changes: 5 }), await other.log({ changes: 5 })];
    await assert.rejects(replica.receive(log, 0, inPieces(log.bytes.subarray(0, -1))), { code: 'interrupted' });
    assert.ok((await replica.durableOffset(log)) > 0);
    await send(replica, rival);
    assert.equal(await replica.durableOffset(log), 0);
    await assert.rejects(send(replica, log), { code: 'not-following', message: /repeated/ });
    await replica.drained();
    assert.equal(await compareWithPoint(replica, other, 1), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('a second upload replaces one whose connection is dead, and goes on where that stopped', async () => {
  const primary = new TestPrimary(9);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary));
  try {
    const log = await primary.log({ changes: 10 });
    const half = log.bytes.length >> 1;
    const dead = replica.receive(log, 0, thenSilence(log.bytes.subarray(0, half)));
    dead.catch(() => undefined); // looked at below
    await until(async () => (await replica.durableOffset(log)) > 0, {
      timeoutMs: 5000,
      onTimeout: () => new Error('nothing arrived'),
    });
    const offset = await replica.durableOffset(log);
    await replica.receive(log, offset, inPieces(log.bytes.subarray(offset)));
    await assert.rejects(dead, { code: 'interrupted', message: /replaced/ });
    await replica.drained();
    assert.equal(await compareWithPoint(replica, primary, 1), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('raising the epoch breaks an upload off, and logs of the old epoch stay out for good', async () => {
  const primary = new TestPrimary(10);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary));
  try {
    const log = await primary.log({ changes: 10 });
    const dead = replica.receive(log, 0, thenSilence(log.bytes.subarray(0, log.bytes.length - 1)));
    dead.catch(() => undefined); // looked at below
    await until(async () => (await replica.durableOffset(log)) > 0, {
      timeoutMs: 5000,
      onTimeout: () => new Error('nothing arrived'),
    });
    await replica.raiseEpoch(2);
    await assert.rejects(dead, { code: 'stale-epoch' });
    const offset = await replica.durableOffset(log);
    await assert.rejects(replica.receive(log, offset, inPieces(log.bytes.subarray(offset))), { code: 'stale-epoch' });
    await assert.rejects(replica.raiseEpoch(1), { code: 'stale-epoch' });
    await replica.close();
    const again = await Replica.open(place.options);
    assert.equal(again.status().epoch, 2);
    await assert.rejects(send(again, log), { code: 'stale-epoch' });
    await again.close();
  } finally {
    await replica.close();
    await place.clear();
  }
});

void test('a sender is held up while too many logs wait', async () => {
  const primary = new TestPrimary(11);
  const place = await newPlace();
  const replica = await Replica.create(place.options, newReplica(primary));
  try {
    await replica.freeze();
    for (let i = 0; i < 4; i++) await send(replica, await primary.log());
    assert.equal(replica.waiting, 4);
    const fifth = send(replica, await primary.log());
    await replica.thaw();
    await fifth;
    await replica.drained();
    assert.equal(await compareWithPoint(replica, primary, 5), undefined);
  } finally {
    await replica.close();
    await place.clear();
  }
});
