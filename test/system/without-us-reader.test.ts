/** docs/examples/read-point.py against an oracle: a replica at rest, one with logs that wait, one in the middle of applying. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { run } from '../../src/lib/process.ts';
import { Replica } from '../../src/replica/replica.ts';
import { newPlace, newReplica, send, type Place } from '../faults/replica-host.ts';
import { TestPrimary } from '../faults/replica-primary.ts';

const SCRIPT = join(import.meta.dirname, '../../docs/examples/read-point.py');
const PYTHON = join(import.meta.dirname, 'python');
// With a module `blake3`, so that it checks digests, too.
process.env['PYTHONPATH'] = PYTHON;
process.env['BLAKE3_BY'] = `${process.execPath}\n${join(PYTHON, 'blake3-lines.ts')}`;
const readPoint = (...args: string[]) => run('python3', [SCRIPT, ...args], { timeoutMs: 60_000 });

let place: Place;
let primary: TestPrimary;
let directory: string;
let replica: Replica;
beforeEach(async () => {
  place = await newPlace();
  ({ directory } = place.options);
  primary = new TestPrimary(31);
});
afterEach(async () => {
  await replica.close();
  await place.clear();
});

async function listed(): Promise<number[]> {
  const { code, stdout, stderr } = await readPoint(directory);
  assert.equal(code, 0, stderr);
  const lines = stdout.split('\n').filter(Boolean);
  return lines.map((line) => Number(line.split('\t')[0]));
}

async function assertReads(point: number | 'newest', sequence: number): Promise<void> {
  const out = join(place.directory, 'out');
  const { code, stderr } = await readPoint(directory, String(point), out);
  assert.equal(code, 0, stderr);
  const wanted = primary.shapes.get(sequence)!;
  const files = wanted.map(({ target }) => `${target}.raw`);
  assert.deepEqual(readdirSync(out).toSorted(), files, 'the disks of then');
  for (const [i, { target }] of wanted.entries()) {
    const bytes = readFileSync(join(out, `${target}.raw`));
    assert.ok(bytes.equals(primary.states.get(sequence)![i]!), `${target} at point ${point}`);
  }
  rmSync(out, { recursive: true });
}

void test('every point, the newest and the oldest; one that is not there is said not to be', async () => {
  replica = await Replica.create(place.options, newReplica(primary));
  for (let i = 0; i < 5; i++) await send(replica, await primary.log({ point: i !== 2 }));
  await replica.drained();
  await replica.close();
  assert.deepEqual(await listed(), [5, 4, 2, 1]);
  for (const point of [5, 4, 2, 1]) await assertReads(point, point);
  await assertReads('newest', 5);
  const { code, stderr } = await readPoint(directory, '3', join(place.directory, 'out'));
  assert.equal(code, 1);
  assert.equal(stderr, 'error: there is no recovery point 3\n');
});

void test('what is received and not applied is the newest; a daemon that ended in the middle of applying changes nothing', async () => {
  replica = await Replica.create(place.options, newReplica(primary));
  for (let i = 0; i < 3; i++) await send(replica, await primary.log());
  await replica.drained();
  await replica.freeze();
  for (let i = 0; i < 2; i++) await send(replica, await primary.log({ refers: true }));
  assert.deepEqual(await listed(), [5, 4, 3, 2, 1]);
  for (const point of [5, 4, 3, 1]) await assertReads(point, point);

  // Back to where it was recorded before log 4 was applied, with 4 (and 5) written to the disks and their undo logs made.
  const kept = join(place.directory, 'kept');
  mkdirSync(kept);
  const inbox = join(directory, 'inbox');
  const record = readFileSync(join(directory, 'replica.json'));
  for (const name of readdirSync(inbox)) copyFileSync(join(inbox, name), join(kept, name));
  await replica.thaw();
  await replica.drained();
  await replica.close();
  const undo5 = readdirSync(join(directory, 'undo')).find((name) => name.includes('0005'))!;
  await takeBack(undo5);
  writeFileSync(join(directory, 'replica.json'), record);
  for (const name of readdirSync(kept)) copyFileSync(join(kept, name), join(inbox, name));
  assert.deepEqual(await listed(), [5, 4, 3, 2, 1]);
  for (const point of [5, 4, 3, 2]) await assertReads(point, point);
  await assertReads('newest', 5);
});

void test('points from before disks were resized and added have the sizes and the disks of then', async () => {
  replica = await Replica.create(place.options, newReplica(primary));
  const shapes = [
    [1_053_184, 524_288],
    [300_544, 700_416], // one shorter, one longer
    [300_544, 700_416, 65_536],
    [900_608, 65_536, 4096],
    [900_608, 524_288, 131_072],
  ];
  for (const sizes of shapes) {
    primary.reshape(sizes.map((size, i) => ({ target: `vd${'abc'[i]}`, size })));
    await send(replica, await primary.log({ changes: 10 }));
  }
  // And one without the second disk.
  primary.reshape(primary.disks.map((disk, i) => (i === 1 ? { ...disk, gone: true } : disk)));
  await send(replica, await primary.log());
  await replica.drained();
  await replica.freeze();
  for (const point of [6, 5, 4, 3, 2, 1]) await assertReads(point, point);

  // The same with logs that wait, and would change the disks again.
  primary.reshape(primary.disks.slice(0, 2).concat({ target: 'vdc', size: 512 }, { target: 'vdd', size: 70_144 }));
  await send(replica, await primary.log());
  primary.reshape(primary.disks.map((disk) => ({ ...disk, size: disk.size + 66_048 })));
  await send(replica, await primary.log());
  for (const point of [8, 7, 6, 5, 3, 1]) await assertReads(point, point);
  await assertReads('newest', 8);
});

void test('without a way back what is on the disks is no point while a log is written to them', async () => {
  replica = await Replica.create(place.options, newReplica(primary, { history: 0 }));
  await send(replica, await primary.log());
  await replica.drained();
  assert.deepEqual(await listed(), [1]);
  await replica.freeze();
  await send(replica, await primary.log());
  assert.deepEqual(await listed(), [2]);
  await assertReads('newest', 2);
});

void test('a log that is not what was written is refused, wherever a byte of it is another one', async () => {
  replica = await Replica.create(place.options, newReplica(primary));
  await send(replica, await primary.log());
  await replica.drained();
  await replica.freeze();
  await send(replica, await primary.log());
  const inbox = join(directory, 'inbox');
  const path = join(
    inbox,
    readdirSync(inbox).find((name) => name.endsWith('.log'))!,
  );
  const log = readFileSync(path);
  const frames = 16 + log.readUInt32LE(12) + 16;
  for (const at of [20, frames + 30, frames + 48, frames + 100]) {
    const other = Buffer.from(log);
    other[at]! ^= 1;
    writeFileSync(path, other);
    const { code, stderr } = await readPoint(directory, 'newest', join(place.directory, `flipped-${at}`));
    assert.equal(code, 1, `byte ${at}`);
    assert.match(stderr, /does not match its digest/);
  }
});

/** The disks as before log 5, by the script itself, and its undo log away: only log 4 is in the middle. */
async function takeBack(undo5: string): Promise<void> {
  const out = join(place.directory, 'four');
  assert.equal((await readPoint(directory, '4', out)).code, 0);
  for (const { target } of primary.disks) {
    const image = join(directory, 'disks', `${target}.qcow2`);
    const { code } = await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', join(out, `${target}.raw`), image]);
    assert.equal(code, 0);
  }
  rmSync(out, { recursive: true });
  rmSync(join(directory, 'undo', undo5));
}

void test('a log of another format version is named, not guessed at', async () => {
  replica = await Replica.create(place.options, newReplica(primary));
  for (let i = 0; i < 2; i++) await send(replica, await primary.log());
  await replica.drained();
  await replica.close();
  const undo = join(directory, 'undo', readdirSync(join(directory, 'undo'))[0]!);
  const bytes = readFileSync(undo);
  bytes.writeUInt16LE(2, 8);
  writeFileSync(undo, bytes);
  const { code, stderr } = await readPoint(directory);
  assert.equal(code, 1);
  assert.match(stderr, /^error: .*\.undo has format version 2; this script reads 1\n$/);
});
