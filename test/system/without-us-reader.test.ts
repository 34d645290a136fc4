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
const readPoint = (...args: string[]) => run('python3', [SCRIPT, ...args], { timeoutMs: 60_000 });

let place: Place;
let primary: TestPrimary;
let directory: string;
beforeEach(async () => {
  place = await newPlace();
  ({ directory } = place.options);
  primary = new TestPrimary(31);
});
afterEach(() => place.clear());

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
  for (const [i, { target, size }] of primary.disks.entries()) {
    const bytes = readFileSync(join(out, `${target}.raw`));
    assert.ok(bytes.subarray(0, size).equals(primary.states.get(sequence)![i]!), `${target} at point ${point}`);
  }
  rmSync(out, { recursive: true });
}

void test('every point, the newest and the oldest; one that is not there is said not to be', async () => {
  const replica = await Replica.create(place.options, newReplica(primary));
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
  const replica = await Replica.create(place.options, newReplica(primary));
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
  const replica = await Replica.create(place.options, newReplica(primary));
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
