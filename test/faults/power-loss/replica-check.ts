/**
 * What a replica must be after a power loss: all that it had promised before. It is opened, does what it was in the middle of,
 * takes one more log, and is then read by another reader than its own.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Lanes } from '../../../src/lanes/lanes.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { pointsToKeep, type RetentionPolicy } from '../../../src/model/retention.ts';
import { checkImage, imageInfo } from '../../../src/qemu/image.ts';
import { blocksOf } from '../../../src/digests/digest-file.ts';
import { Replica } from '../../../src/replica/replica.ts';
import { digestsOf } from '../replica-host.ts';
import { difference, inPieces, type MadeLog, type TestPrimary } from '../replica-primary.ts';
import type { LifePlan } from './replica-life.ts';
import { imageBytes, readPoints } from './second-reader.ts';

export interface Lived {
  readonly plan: LifePlan;
  readonly primary: TestPrimary;
  readonly logs: readonly MadeLog[];
}

/** A replica that can't finish in so long what it was in the middle of is broken. */
const PATIENCE_MS = 20_000;

/** Throws when a promise is broken. */
export async function checkReplica(lived: Lived, said: readonly string[]): Promise<void> {
  const lanes = new Lanes();
  try {
    await checkWith(lived, said, lanes);
  } finally {
    await lanes.close();
  }
}

async function checkWith(lived: Lived, said: readonly string[], lanes: Lanes): Promise<void> {
  const { plan } = lived;
  const options = { directory: plan.directory, runDirectory: plan.runDirectory, lanes, log: silentLog() };
  const isThere = existsSync(join(plan.directory, 'replica.json'));
  assert.ok(isThere || !said.includes('created'), 'the replica is gone');
  const replica = isThere ? await Replica.open(options) : await Replica.create(options, plan.replica);
  try {
    await checkPromises(lived, replica, said);
    await checkFrozen(lived, replica, said);
    await replica.drained(AbortSignal.timeout(PATIENCE_MS));
    await takeNext(lived, replica);
    await checkDigests(lived, replica);
    await replica.merged();
  } finally {
    await replica.close();
  }
  await checkPoints(lived, replica);
}

/** The last thing of a kind that was said: `kind`, then its words. */
function last(said: readonly string[], kind: string): number[] | undefined {
  const found = said.findLast((line) => line === kind || line.startsWith(`${kind} `));
  return found?.split(' ').slice(1).map(Number);
}

async function checkPromises({ logs }: Lived, replica: Replica, said: readonly string[]): Promise<void> {
  const [acknowledged = 0] = last(said, 'acknowledged') ?? [];
  const { received } = replica.status();
  assert.ok(received.sequence >= acknowledged, `log ${acknowledged} was acknowledged; ${received.sequence} is there`);
  const [sequence = 0, offset = 0] = last(said, 'kept') ?? [];
  if (received.sequence === sequence - 1) {
    const there = await replica.durableOffset(logs[sequence - 1]!);
    assert.ok(there >= offset, `of log ${sequence} ${offset} bytes were said to be durable; ${there} are`);
  }
  const [epoch = 1] = last(said, 'raised') ?? [];
  assert.ok(replica.status().epoch >= epoch, `the epoch was ${epoch}; it is ${replica.status().epoch}`);
}

async function checkFrozen({ plan, primary }: Lived, replica: Replica, said: readonly string[]): Promise<void> {
  const thawing = said.includes('thawing');
  assert.ok(replica.frozen || thawing || !said.includes('frozen'), 'it was frozen');
  if (!replica.frozen) return;
  const point = last(said, 'materialised')?.[0];
  if (point !== undefined && !thawing) {
    for (const [disk, { target, size }] of primary.shapes.get(point)!.entries()) {
      const overlay = plan.overlays[target]!;
      const wanted = primary.states.get(point)![disk]!;
      assert.ok((await imageBytes(overlay, size)).equals(wanted), `the overlay of ${target} is not point ${point}`);
      assert.equal((await checkImage(overlay)).corruptions, 0, overlay);
    }
  }
  for (const overlay of Object.values(plan.overlays)) await rm(overlay, { force: true });
  await replica.thaw();
}

/** Replication goes on: the next log follows. */
async function takeNext({ logs }: Lived, replica: Replica): Promise<void> {
  const { received, epoch } = replica.status();
  const next = logs.find(({ sequence }) => sequence === received.sequence + 1);
  if (next === undefined || epoch > 1) return;
  const from = await replica.durableOffset(next);
  await replica.receive(next, from, inPieces(next.bytes.subarray(from)));
  await replica.drained(AbortSignal.timeout(PATIENCE_MS));
}

async function checkDigests({ primary }: Lived, replica: Replica): Promise<void> {
  const { sequence } = replica.status().applied;
  const now = primary.states.get(sequence)!;
  for (const [disk, { target, size }] of primary.shapes.get(sequence)!.entries()) {
    const got = Buffer.from(await replica.questions.digests({ target, from: 0, count: blocksOf(size) }));
    assert.ok(got.equals(digestsOf(now[disk]!)), `digests of ${target}`);
  }
}

async function checkPoints({ plan, primary, logs }: Lived, replica: Replica): Promise<void> {
  const { latest, history, thin } = replica.record;
  if (latest !== null) {
    const older = logs.flatMap(({ sequence, point }) => (sequence < latest.sequence && point !== null ? [point] : []));
    const policy: RetentionPolicy = { last: history, thin };
    const wanted = pointsToKeep(older.toReversed(), latest, policy);
    const sequences = replica.points().map(({ sequence }) => sequence);
    assert.deepEqual(
      sequences,
      [...wanted].toSorted((a, b) => b - a),
      'the points that are kept',
    );
  }
  const read = await readPoints(plan.directory);
  for (const { sequence } of replica.points()) {
    const bytes = read.get(sequence);
    assert.ok(bytes !== undefined, `point ${sequence} is not there`);
    const wanted = primary.states.get(sequence)!;
    assert.deepEqual(
      bytes.map(({ length }) => length),
      wanted.map(({ length }) => length),
    );
    assert.equal(difference(bytes, wanted), undefined, `point ${sequence}`);
  }
  for (const { target, path, size } of replica.disks) {
    assert.equal((await imageInfo(path)).size, size, `the image of ${target}`);
    assert.equal((await checkImage(path)).corruptions, 0, path);
  }
}
