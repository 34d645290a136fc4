import assert from 'node:assert/strict';
import { cp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { newPlace, newReplica, send, type Place } from '../../test/faults/replica-host.ts';
import { inPieces, START, TestPrimary, type MadeLog } from '../../test/faults/replica-primary.ts';
import { CATALOGUE, type Failure, type FailureCode } from '../model/failure.ts';
import { NOT_FOLLOWING, type NotFollowing } from '../model/not-following.ts';
import { Replica } from './replica.ts';

/** Logs 1 and 2 are received; the primary stands there. Nothing that a test does may be taken. */
void describe('a replica refuses', () => {
  let place: Place;
  let replica: Replica;
  let primary: TestPrimary;
  let first: MadeLog;
  let second: MadeLog;

  before(async () => {
    place = await newPlace();
    primary = new TestPrimary(7);
    replica = await Replica.create(place.options, newReplica(primary, { epoch: 2 }));
    primary.position = START;
    first = await primary.log({ header: { epoch: 2 } });
    await send(replica, first);
    second = await primary.log();
    await send(replica, second);
    await replica.drained();
  });

  after(async () => {
    await replica.close();
    await place.clear();
  });

  /** A log that would be taken but for `header`. */
  async function log(header: Record<string, unknown>, changes = 3): Promise<MadeLog> {
    const other = new TestPrimary(8, primary.id);
    other.position = primary.position;
    return await other.log({ header, changes });
  }

  /** @param kind of `not-following`: the message begins with it, the cure is its own. */
  async function refuses(made: MadeLog, code: FailureCode, message: RegExp, kind?: NotFollowing): Promise<void> {
    const before = replica.status();
    await assert.rejects(send(replica, made), (error: Failure) => {
      assert.equal(error.code, code);
      assert.match(error.message, message);
      if (kind !== undefined) assert.ok(error.message.startsWith(`${kind}: `), error.message);
      assert.equal(error.hint, kind === undefined ? CATALOGUE[code].hint : NOT_FOLLOWING[kind].cure);
      return true;
    });
    assert.deepEqual(replica.status(), before);
    assert.deepEqual(await readdir(join(place.options.directory, 'inbox')), []);
  }

  void test('a log of another relationship', async () => {
    await refuses(
      await log({ relationship: '21111111-2222-4333-8444-555555555555' }),
      'not-following',
      /relationship 21111111/,
      'other relationship',
    );
  });

  void test('a log of an older epoch', async () => {
    await refuses(await log({ epoch: 1 }), 'stale-epoch', /epoch 1; the replica is at 2/);
  });

  void test('a log of an epoch that it was not told of', async () => {
    await refuses(await log({ epoch: 3 }), 'not-following', /epoch 3, ahead of 2/, 'other epoch');
  });

  void test('an older log again', async () => {
    await refuses(first, 'not-following', /log 1 .* received epoch 2, log 2/, 'repeated');
  });

  void test('a log after a gap', async () => {
    const follows = { ...primary.position, sequence: 5 };
    await refuses({ ...(await log({ sequence: 6, follows })), sequence: 6 }, 'not-following', /log 6/, 'gap');
  });

  void test('logs out of order: the later one, until the earlier one has come', async () => {
    const earlier = await primary.log();
    const later = await primary.log();
    await refuses(later, 'not-following', /log 4/, 'gap');
    await send(replica, earlier);
    await send(replica, later);
    await replica.drained();
    await refuses(earlier, 'not-following', /log 3/, 'repeated');
  });

  void test('the next log, when it was restored from an older state; and goes on when it is put back', async () => {
    const { directory } = place.options;
    await replica.drained();
    await replica.close();
    const [older, newer] = [join(place.directory, 'older'), join(place.directory, 'newer')];
    await cp(directory, older, { recursive: true });
    replica = await Replica.open(place.options);
    for (let i = 0; i < 2; i++) await send(replica, await primary.log());
    await replica.drained();
    const next = await primary.log();
    await replica.close();
    await rename(directory, newer);
    await rename(older, directory);
    replica = await Replica.open(place.options);
    await refuses(next, 'not-following', /log 7 was offered.*log 4/, 'gap');
    await replica.close();
    await rm(directory, { recursive: true });
    await rename(newer, directory);
    replica = await Replica.open(place.options);
    await send(replica, next);
    await replica.drained();
  });

  void test('a log whose base has another number than its place says', async () => {
    const follows = { ...primary.position, sequence: 1 };
    await refuses(await log({ follows }), 'not-following', /log \d follows .* log 1/, 'repeated');
  });

  void test('a log that follows another state', async () => {
    const follows = { ...primary.position, state: 'f'.repeat(32) };
    await refuses(await log({ follows }), 'not-following', /ffffffff.*the replica has received/, 'other state');
  });

  void test('a log of other disks', async () => {
    const disks = [{ target: 'vda', size: primary.disks[0]!.size }];
    await refuses(await log({ disks }, 0), 'not-following', /vda .*vdb/, 'other disks');
  });

  void test('an undo log', async () => {
    await refuses(await log({ direction: 'undo' }), 'bad-log', /undo log/);
  });

  void test('a log under a name that is not its own', async () => {
    const made = await log({});
    await refuses({ ...made, logId: 'a'.repeat(32) }, 'bad-log', /was sent as/);
  });

  void test('a damaged log, of which it keeps the good part once', async () => {
    const made = await log({});
    const damaged = Buffer.from(made.bytes);
    damaged[damaged.length - 200]! ^= 1;
    await assert.rejects(replica.receive(made, 0, inPieces(damaged, 100)), { code: 'bad-log' });
    const kept = await replica.durableOffset(made);
    assert.ok(kept > 0 && kept < made.bytes.length - 200);
    // Damaged at the same place again: perhaps it is the kept part that is wrong.
    await assert.rejects(replica.receive(made, kept, inPieces(damaged.subarray(kept))), { code: 'bad-log' });
    assert.equal(await replica.durableOffset(made), 0);
  });

  void test('a log with something behind its end', async () => {
    const made = await log({});
    const bytes = Buffer.concat([made.bytes, Buffer.from('x')]);
    await assert.rejects(replica.receive(made, 0, inPieces(bytes, bytes.length)), { code: 'bad-log' });
    assert.deepEqual(replica.status().received, primary.position);
    assert.ok((await replica.durableOffset(made)) < made.bytes.length);
  });

  void test('to confirm a position that it has not received', async () => {
    await assert.rejects(replica.confirm({ ...primary.position, state: 'e'.repeat(32) }, 1), { code: 'not-following' });
    await assert.rejects(replica.confirm({ ...primary.position, epoch: 1 }, 1), { code: 'stale-epoch' });
  });

  void test('views of points that it has not got', async () => {
    await assert.rejects(replica.openView(77), { code: 'not-found' });
  });

  void test('to be opened with a hole in its inbox', async () => {
    await replica.freeze();
    for (let i = 0; i < 2; i++) await send(replica, await primary.log());
    await replica.close();
    const inbox = join(place.options.directory, 'inbox');
    const [name] = (await readdir(inbox)).toSorted();
    const away = join(place.directory, 'away');
    await rename(join(inbox, name!), away);
    const { cure } = NOT_FOLLOWING['hole in the inbox'];
    await assert.rejects(Replica.open(place.options), {
      code: 'not-following',
      hint: cure,
      message: /^hole in the inbox/,
    });
    await rename(away, join(inbox, name!));
    replica = await Replica.open(place.options);
    await replica.thaw();
    await replica.drained();
  });

  void test('to be opened with a hole in its undo logs', async () => {
    for (let i = 0; i < 3; i++) await send(replica, await primary.log());
    await replica.drained();
    const points = replica.points();
    await replica.close();
    const undo = join(place.options.directory, 'undo');
    const names = (await readdir(undo)).toSorted();
    const away = join(place.directory, 'away');
    await rename(join(undo, names[1]!), away);
    await assert.rejects(Replica.open(place.options), { code: 'io', message: /hole/ });
    await rename(away, join(undo, names[1]!));
    await rename(join(undo, names.at(-1)!), away);
    await assert.rejects(Replica.open(place.options), { code: 'io', message: /is applied/ });
    await rename(away, join(undo, names.at(-1)!));
    replica = await Replica.open(place.options);
    assert.deepEqual(replica.points(), points);
  });
});
