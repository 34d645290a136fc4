import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { flipBit, flipStored } from '../../test/faults/corruption.ts';
import {
  compareDigests,
  compareWithPoint,
  newPlace,
  newReplica,
  send,
  type Place,
} from '../../test/faults/replica-host.ts';
import { TestPrimary, type MadeLog } from '../../test/faults/replica-primary.ts';
import { until } from '../lib/clock.ts';
import { WRITER } from '../deltalog/header.ts';
import { LogWriter } from '../deltalog/writer.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import { checkImage } from '../qemu/image.ts';
import { Replica } from './replica.ts';

const MIB = 2 ** 20;

let place: Place;
let primary: TestPrimary;
let told: string[];
beforeEach(async () => {
  place = await newPlace();
  primary = new TestPrimary(7, undefined, [{ target: 'vda', size: MIB }]);
  told = [];
});
afterEach(() => place.clear());

const options = () => ({ ...place.options, onDamage: (text: string) => void told.push(text) });
const never = new AbortController().signal;

/** A log that writes data to the disk, and where `again` says so the same once more: by reference. */
async function writing(offset: number, data: Buffer, again?: number): Promise<MadeLog> {
  const sequence = primary.position.sequence + 1;
  const instant = 1_700_000_000_000 + sequence * 1000;
  const point = { sequence, epoch: 1, instant, confirmed: instant, kind: 'crash-consistent' } as const;
  const logId = randomBytes(16).toString('hex');
  const path = join(place.directory, logId);
  const about = { writer: WRITER, relationship: primary.id, logId, direction: 'forward' as const };
  const header = {
    ...about,
    disks: [...primary.disks],
    follows: primary.position,
    sequence,
    epoch: 1,
    point,
    created: instant,
  };
  const writer = await LogWriter.create(path, header, { compression: 1 });
  await writer.data(0, offset, data);
  if (again !== undefined) await writer.reference(0, again, data.length, { disk: 0, offset });
  const { makes } = await writer.finish({ durable: false });
  data.copy(primary.bytes[0]!, offset);
  if (again !== undefined) data.copy(primary.bytes[0]!, again);
  primary.position = makes;
  primary.states.set(
    sequence,
    primary.bytes.map((bytes) => Buffer.from(bytes)),
  );
  return { sequence, logId, bytes: await readFile(path), makes, point };
}

/** Point 1: the whole disk; points 2 and 3: little more in its last block. */
async function withPoints(history = 24): Promise<Replica> {
  const replica = await Replica.create(options(), newReplica(primary, { history }));
  await send(replica, await writing(0, randomBytes(MIB)));
  for (const i of [1, 2]) await send(replica, await writing(MIB - i * 4096, randomBytes(4096)));
  await replica.drained();
  return replica;
}

/** Damages a block other than the last. */
async function damage(replica: Replica): Promise<number> {
  const at = await flipStored(join(replica.directory, 'disks', 'vda.qcow2'), 0.5);
  return Math.floor(at / DIGEST_BLOCK);
}

const marked = (replica: Replica) => [...replica.unsound.keys()].toSorted((a, b) => a - b);

void describe('a damaged block', () => {
  void test('that comes again as the same as another block is whole again in every point', async () => {
    const replica = await withPoints();
    const block = await damage(replica);
    assert.deepEqual(await replica.questions.scrub(0, 0, 16, never), [block]);
    const offset = block * DIGEST_BLOCK;
    const right = Buffer.from(primary.bytes[0]!.subarray(offset, offset + DIGEST_BLOCK));
    const other = block === 0 ? DIGEST_BLOCK : 0;
    await send(replica, await writing(other, right, offset));
    await replica.drained();
    assert.deepEqual(marked(replica), []);
    for (const sequence of [1, 2, 3, 4]) assert.equal(await compareWithPoint(replica, primary, sequence), undefined);
    await replica.close();
  });

  void test('that is sent as it had been is whole again in every point, also behind a restart in between', async () => {
    let replica = await withPoints();
    const block = await damage(replica);
    assert.deepEqual(await replica.questions.scrub(0, 0, 16, never), [block]);
    assert.deepEqual(await replica.questions.scrub(0, 0, 16, never), [], 'it is told once');
    assert.deepEqual(marked(replica), [1, 2, 3]);
    await replica.close();
    replica = await Replica.open(options());
    assert.deepEqual(marked(replica), [1, 2, 3]);
    const offset = block * DIGEST_BLOCK;
    assert.deepEqual(replica.status().damage, [{ target: 'vda', offset, length: DIGEST_BLOCK }]);
    // What has nothing to do with it makes a point that holds it, too.
    await send(replica, await writing(MIB - 4096, randomBytes(4096)));
    await replica.drained();
    assert.deepEqual(marked(replica), [1, 2, 3, 4]);
    await assert.rejects(replica.openView(4), { code: 'point-damaged' });
    await send(replica, await writing(offset, Buffer.from(primary.bytes[0]!.subarray(offset, offset + DIGEST_BLOCK))));
    await replica.drained();
    assert.deepEqual(marked(replica), []);
    assert.equal(replica.status().damage, undefined);
    for (const sequence of [1, 2, 3, 4, 5]) assert.equal(await compareWithPoint(replica, primary, sequence), undefined);
    await replica.close();
  });

  void test('that was changed meanwhile is right in new points; old ones that hold it stay marked', async () => {
    const replica = await withPoints();
    const block = await damage(replica);
    await replica.questions.scrub(0, 0, 16, never);
    await send(replica, await writing(block * DIGEST_BLOCK, randomBytes(DIGEST_BLOCK)));
    await send(replica, await writing(0, randomBytes(4096)));
    await replica.drained();
    assert.deepEqual(marked(replica), [1, 2, 3]);
    assert.equal(replica.status().damage, undefined, 'nothing is to be sent again');
    for (const sequence of [4, 5]) assert.equal(await compareWithPoint(replica, primary, sequence), undefined);
    await assert.rejects(replica.openView(2), { code: 'point-damaged' });
    const view = await replica.openView(2, undefined, true);
    await view.close();
    // With the last of them the memory of it goes.
    await replica.setSettings({ history: 1 });
    await send(replica, await writing(0, randomBytes(4096)));
    await replica.drained();
    assert.deepEqual(marked(replica), []);
    assert.deepEqual(replica.record.damage, { blocks: [], undo: [] });
    await replica.close();
  });

  void test('that an older point does not read from the disk does it no harm', async () => {
    const replica = await withPoints();
    const block = 2;
    await send(replica, await writing(block * DIGEST_BLOCK, randomBytes(DIGEST_BLOCK)));
    await replica.drained();
    const path = join(replica.directory, 'disks', 'vda.qcow2');
    while (Math.floor((await flipStored(path, (block + 0.5) / 16)) / DIGEST_BLOCK) !== block) assert.fail('not there');
    assert.deepEqual(await replica.questions.scrub(0, block, 1, never), [block]);
    assert.deepEqual(marked(replica), [4], 'the undo log has what 1 to 3 held');
    assert.equal(await compareWithPoint(replica, primary, 3), undefined);
    await replica.close();
  });
});

void describe('a received log that is damaged while it waits', () => {
  for (const history of [24, 0]) {
    void test(`is given up at the next opening, with ${history} points kept`, async () => {
      const replica = await withPoints(history);
      const [before, bytes] = [primary.position, Buffer.from(primary.bytes[0]!)];
      await replica.freeze(); // what arrives waits
      await send(replica, await writing(0, randomBytes(MIB / 2)));
      await send(replica, await writing(0, randomBytes(4096)));
      const inbox = join(replica.directory, 'inbox');
      const [first] = (await readdir(inbox)).toSorted();
      await replica.close();
      await flipBit(join(inbox, first!), 40);
      const again = await Replica.open(options());
      await again.thaw();
      await again.drained();
      assert.equal(told.length, 1, told.join('\n'));
      assert.match(told[0]!, /received log 4 is damaged.*the primary compares both sides/);
      assert.deepEqual(again.status().received, before);
      assert.deepEqual(await readdir(inbox), []);
      // Without a way back nobody knows how much of it was written: no point is claimed until one is made again.
      assert.deepEqual(
        again.points().map(({ sequence }) => sequence),
        history === 0 ? [] : [3, 2, 1],
      );
      primary.position = before;
      bytes.copy(primary.bytes[0]!);
      assert.equal(await compareDigests(again, primary), undefined);
      await send(again, await writing(8192, randomBytes(4096)));
      await again.drained();
      assert.equal(await compareWithPoint(again, primary, 4), undefined);
      await again.close();
    });
  }
});

void test('an undo log that can not be opened is put aside with the older ones; newer points stay', async () => {
  const replica = await withPoints();
  await send(replica, await writing(0, randomBytes(4096)));
  await replica.drained();
  await replica.close();
  const undo = join(replica.directory, 'undo');
  const names = (await readdir(undo)).toSorted();
  assert.equal(names.length, 3);
  await flipBit(join(undo, names[1]!), 40);
  const again = await Replica.open(options());
  assert.equal(told.length, 1);
  assert.deepEqual(
    again.points().map(({ sequence }) => sequence),
    [4, 3],
  );
  assert.deepEqual((await readdir(join(replica.directory, 'damaged'))).toSorted(), names.slice(0, 2));
  for (const sequence of [3, 4]) assert.equal(await compareWithPoint(again, primary, sequence), undefined);
  await again.close();
});

test('an undo log whose damage nobody has found yet is found by who goes back over it, and newer points stay', async () => {
  const replica = await withPoints();
  const undo = join(replica.directory, 'undo');
  const names = (await readdir(undo)).toSorted();
  // In the bytes of its frame, behind the header.
  const { size } = await stat(join(undo, names[1]!));
  await flipBit(join(undo, names[1]!), Math.floor(size / 2));
  await replica.freeze();
  const overlays = new Map([['vda', join(place.directory, 'overlay.qcow2')]]);
  await assert.rejects(replica.materialise(1, overlays), { code: 'point-damaged' });
  await assert.rejects(replica.materialise(1, overlays, true), { code: 'point-damaged' }, 'it can not be read at all');
  assert.equal(told.length, 1, told.join('\n'));
  await replica.thaw();
  assert.deepEqual(marked(replica), [1, 2]);
  assert.equal(await compareWithPoint(replica, primary, 3), undefined);
  await replica.close();
});

void test('a bit that flips in what an image keeps about itself is found and mended; the block that it led astray is named', async () => {
  const replica = await Replica.create(options(), newReplica(primary, { history: 4 }));
  try {
    for (const block of [1, 4, 9]) await send(replica, await writing(block * DIGEST_BLOCK, randomBytes(DIGEST_BLOCK)));
    await replica.drained();
    const { path } = replica.record.disks[0]!;
    assert.deepEqual(await checkImage(path, { inUse: true }), { corruptions: 0, leaks: 0 });
    // The entry of block 4 names its neighbour's cluster from now on.
    await flipBit(path, (await level2(path)) + 8 * 4 + 5);
    assert.ok((await checkImage(path, { inUse: true })).corruptions > 0);
    const view = await replica.openView(replica.points().at(-1)!.sequence); // goes on meanwhile
    await scrub(replica);
    assert.deepEqual(await checkImage(path, { inUse: true }), { corruptions: 0, leaks: 0 });
    assert.match(
      told[0]!,
      /^the image of vda was damaged in \d+ places of what it keeps about itself: they are mended/,
    );
    assert.deepEqual(replica.status().damage, [{ target: 'vda', offset: 4 * DIGEST_BLOCK, length: DIGEST_BLOCK }]);
    // Sent again as it was.
    const right = Buffer.from(primary.bytes[0]!.subarray(4 * DIGEST_BLOCK, 5 * DIGEST_BLOCK));
    await send(replica, await writing(4 * DIGEST_BLOCK, right));
    await replica.drained();
    assert.equal(replica.status().damage, undefined);
    // Two blocks had shared a cluster, which one of them has again to itself: a mark that says so is mended by the next pass.
    await scrub(replica);
    const before = told.length;
    await scrub(replica);
    assert.equal(told.length, before, told.join('\n'));
    for (const { sequence } of replica.points())
      assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
    await view.close();
  } finally {
    await replica.close();
  }
});

const { PATH = '' } = process.env;

/** A directory with a qemu-img that takes its time to mend an image, as it does with a large one, and leaves `mends` when it begins. */
async function slowMending(): Promise<string> {
  const mends = join(place.directory, 'mends');
  const script = `#!/bin/sh\ncase "$*" in *'-r all'*) : >'${mends}'; sleep 2;; esac\nPATH='${PATH}' exec qemu-img "$@"\n`;
  await writeFile(join(place.directory, 'qemu-img'), script, { mode: 0o755 });
  return place.directory;
}

void test('an image is not mended once its disk is released for a failover, and not released while it is mended', async () => {
  const replica = await Replica.create(options(), newReplica(primary, { history: 4 }));
  try {
    for (const block of [1, 4]) await send(replica, await writing(block * DIGEST_BLOCK, randomBytes(DIGEST_BLOCK)));
    await replica.drained();
    const { path } = replica.record.disks[0]!;
    const entry = (await level2(path)) + 8 * 4 + 5;
    await replica.freeze();
    await flipBit(path, entry);
    const { corruptions } = await checkImage(path);
    assert.ok(corruptions > 0);
    await replica.scrub.begin(Date.now());
    await assert.rejects(replica.scrub.step(Date.now(), never), { code: 'wrong-state' });
    assert.equal((await checkImage(path)).corruptions, corruptions, 'a VM may run on it: it is left as it is');
    await replica.thaw();
    const tools = await slowMending();
    process.env['PATH'] = `${tools}:${PATH}`;
    const mending = replica.scrub.step(Date.now(), never).catch((error: unknown) => error);
    await until(() => existsSync(join(tools, 'mends')), {
      timeoutMs: 30_000,
      onTimeout: () => new Error('nothing is mended'),
    });
    await replica.freeze();
    // Fails while somebody else has it open for writing. One mark is left to the next pass.
    assert.ok((await checkImage(path)).corruptions < corruptions, 'it is mended by now');
    await mending;
  } finally {
    process.env['PATH'] = PATH;
    await replica.close();
  }
});

/** Where a small qcow2 keeps which cluster holds which bytes: 8 bytes for each. */
async function level2(image: string): Promise<number> {
  const file = await readFile(image);
  const level1 = Number(file.readBigUInt64BE(40));
  return Number(file.readBigUInt64BE(level1) & 0x00ff_ffff_ffff_fe00n);
}

/** A whole pass. */
async function scrub(replica: Replica): Promise<void> {
  await replica.scrub.begin(Date.now());
  while (!(await replica.scrub.step(Date.now(), never)).done);
}
