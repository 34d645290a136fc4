import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { FrameKind, type Place } from '../deltalog/frame.ts';
import { WRITER, type LogFooter, type LogHeader } from '../deltalog/header.ts';
import { checkReferences, LogReader, resumeParser } from '../deltalog/reader.ts';
import { LogWriter } from '../deltalog/writer.ts';
import { PAGE, pageDigests } from '../protocol/page-digest.ts';
import { thinLog, type PagesInDoubt } from './thin.worker.ts';

const KIB = 1024;
const CLUSTER = 64 * KIB;
/** The last page is short. */
const SIZES = [16 * CLUSTER + PAGE + 512, 3 * CLUSTER];

let directory: string;
before(async () => (directory = await mkdtemp(join(tmpdir(), 'us-thin-'))));
after(() => rm(directory, { recursive: true }));

const below = (limit: number): number => Math.floor(Math.random() * limit);

function header(logId: string): LogHeader {
  return {
    writer: WRITER,
    relationship: '01234567-89ab-4def-8123-456789abcdef',
    logId,
    direction: 'forward',
    disks: SIZES.map((size, i) => ({ target: `vd${'ab'[i]}`, size })),
    follows: { epoch: 1, sequence: 4, state: 'ab'.repeat(16) },
    sequence: 5,
    epoch: 1,
    point: null,
    created: 1,
  };
}

/** What a log makes of disks: its references last. */
async function applied(path: string, disks: readonly Buffer[]): Promise<Buffer[]> {
  const out = disks.map((disk) => Buffer.from(disk));
  await checkReferences(path, await resumeParser(path));
  const reader = await LogReader.open(path);
  try {
    const frames = await reader.index();
    for (const frame of frames) {
      const { kind, disk, offset, length } = frame;
      if (kind === FrameKind.zero) out[disk]!.fill(0, offset, offset + length);
      else if (kind === FrameKind.data) (await reader.data(frame)).copy(out[disk]!, offset);
    }
    for (const { disk, offset, length, source } of frames) {
      if (source !== undefined) out[source.disk]!.copy(out[disk]!, offset, source.offset, source.offset + length);
    }
  } finally {
    await reader.close();
  }
  return out;
}

interface World {
  readonly base: Buffer[];
  readonly changed: Buffer[];
}

/** Guests that write pages, parts of pages, zeros, and what was there before. */
function writes(count: number): World {
  const base = SIZES.map((size) => (below(2) === 0 ? randomBytes(size) : Buffer.alloc(size, below(3))));
  const changed = base.map((disk) => Buffer.from(disk));
  for (let i = 0; i < count; i++) {
    const disk = changed[below(changed.length)]!;
    const offset = below(disk.length / 512) * 512;
    const length = Math.min((1 + below(20)) * 512, disk.length - offset);
    if (below(4) === 0) disk.fill(0, offset, offset + length);
    else if (below(4) > 0) randomBytes(length).copy(disk, offset);
  }
  for (let i = below(8); i > 0; i--) {
    const [from, onto] = [changed[below(changed.length)]!, changed[below(changed.length)]!];
    const at = below(from.length / CLUSTER - 1) * CLUSTER;
    from.copy(onto, below(onto.length / CLUSTER - 1) * CLUSTER, at, at + CLUSTER);
  }
  return { base, changed };
}

/** Dirty clusters as a capture writes them: in pieces of some clusters or less, in no order. */
async function captured(path: string, { base, changed }: World): Promise<number> {
  const writer = await LogWriter.create(path, header('1'.repeat(32)), { compression: 1 });
  const pieces: { disk: number; offset: number; length: number }[] = [];
  for (const [disk, bytes] of changed.entries()) {
    for (let at = 0; at < bytes.length;) {
      const length = Math.min(below(2) === 0 ? CLUSTER : 512 * (1 + below(400)), bytes.length - at);
      const dirty = !bytes.subarray(at, at + length).equals(base[disk]!.subarray(at, at + length));
      if (dirty || below(4) === 0) pieces.push({ disk, offset: at, length });
      at += length;
    }
  }
  pieces.sort(() => below(3) - 1);
  const there = new Map<string, Place>();
  for (const { disk, offset, length } of pieces) {
    const data = changed[disk]!.subarray(offset, offset + length);
    const isBlock = offset % CLUSTER === 0 && length === CLUSTER;
    const source = isBlock ? there.get(data.toString('latin1')) : undefined;
    if (isBlock && source === undefined) there.set(data.toString('latin1'), { disk, offset });
    if (source !== undefined && !data.every((byte) => byte === 0)) await writer.reference(disk, offset, length, source);
    else if (data.every((byte) => byte === 0)) await writer.zero(disk, offset, length);
    else await writer.data(disk, offset, data);
  }
  await writer.finish({ durable: false });
  return writer.written;
}

/** The replica, which knows what it was asked. */
function replica(base: readonly Buffer[], asked: PagesInDoubt[] = []) {
  const ask = async (question: unknown): Promise<never> => {
    const { disk, salt, runs } = question as PagesInDoubt;
    asked.push(question as PagesInDoubt);
    const answers = runs.map(({ offset, length }) => {
      assert.equal(offset % PAGE, 0);
      return pageDigests(Buffer.from(salt, 'hex'), base[disk]!.subarray(offset, offset + length));
    });
    return Buffer.concat(answers) as never;
  };
  return { signal: new AbortController().signal, tell: () => undefined, ask };
}

async function thin(world: World, most = Infinity): Promise<{ footer: LogFooter | null; from: string; to: string }> {
  const from = join(directory, 'captured');
  const to = join(directory, 'thinner');
  await captured(from, world);
  const input = { from, to, header: header('2'.repeat(32)), level: 3, most };
  return { from, to, footer: await thinLog(input, replica(world.base)) };
}

void test('a thinner log makes of the base what the captured one makes of it, byte for byte', async () => {
  for (let round = 0; round < 30; round++) {
    const world = writes(below(40));
    const { footer, from, to } = await thin(world);
    assert.ok(footer !== null);
    const whole = await applied(from, world.base);
    const thinner = await applied(to, world.base);
    for (const [i, disk] of world.changed.entries()) {
      assert.ok(whole[i]!.equals(disk), 'what was captured');
      assert.ok(thinner[i]!.equals(disk), `disk ${i} in round ${round}`);
    }
  }
});

void test('only pages that differ are in it', async () => {
  const base = SIZES.map((size) => randomBytes(size));
  const changed = base.map((disk) => Buffer.from(disk));
  const places = [0, CLUSTER + 3 * PAGE, CLUSTER + 4 * PAGE, 5 * CLUSTER + 15 * PAGE, 16 * CLUSTER + PAGE];
  for (const at of places) randomBytes(512).copy(changed[0]!, at);
  const from = join(directory, 'some');
  const to = join(directory, 'fewer');
  const writer = await LogWriter.create(from, header('1'.repeat(32)), { compression: 0 });
  for (const cluster of [0, 1, 5, 7]) {
    await writer.data(0, cluster * CLUSTER, changed[0]!.subarray(cluster * CLUSTER, (cluster + 1) * CLUSTER));
  }
  await writer.data(0, 16 * CLUSTER, changed[0]!.subarray(16 * CLUSTER));
  await writer.finish({ durable: false });
  const asked: PagesInDoubt[] = [];
  const input = { from, to, header: header('2'.repeat(32)), level: 0, most: Infinity };
  const footer = await thinLog(input, replica(base, asked));
  const reader = await LogReader.open(to);
  const frames = (await reader.index()).map(({ offset, length }) => ({ offset, length }));
  await reader.close();
  assert.deepEqual(frames, [
    { offset: 0, length: PAGE },
    { offset: CLUSTER + 3 * PAGE, length: 2 * PAGE },
    { offset: 5 * CLUSTER + 15 * PAGE, length: PAGE },
    { offset: 16 * CLUSTER + PAGE, length: 512 },
  ]);
  assert.equal(footer!.dataBytes, 4 * PAGE + 512);
  assert.deepEqual(asked[0]!.runs, [
    { offset: 0, length: 2 * CLUSTER },
    { offset: 5 * CLUSTER, length: CLUSTER },
    { offset: 7 * CLUSTER, length: CLUSTER },
    { offset: 16 * CLUSTER, length: PAGE + 512 },
  ]);
});

void test('a reference stays one where all of it is new, to where its bytes are now', async () => {
  const [twice, known] = [randomBytes(CLUSTER), randomBytes(CLUSTER)];
  const size = 12 * CLUSTER;
  const base = randomBytes(size);
  known.copy(base, 0); // the replica has this, where the captured log has it as data, too
  const page = Buffer.from(twice.subarray(0, PAGE));
  page.copy(base, 9 * CLUSTER); // and one page of what a reference makes
  const disks = [{ target: 'vda', size }];
  const from = join(directory, 'referring');
  const to = join(directory, 'referring-thinner');
  const writer = await LogWriter.create(from, { ...header('1'.repeat(32)), disks }, { compression: 0 });
  const refer = (block: number, as: number) =>
    writer.reference(0, block * CLUSTER, CLUSTER, { disk: 0, offset: as * CLUSTER });
  await refer(11, 7);
  await writer.data(0, 0, known);
  await refer(3, 0);
  await refer(5, 0);
  await writer.data(0, 7 * CLUSTER, twice);
  await refer(9, 7);
  await writer.finish({ durable: false });
  const input = { from, to, header: { ...header('2'.repeat(32)), disks }, level: 0, most: Infinity };
  const footer = await thinLog(input, replica([base]));
  assert.ok((await applied(to, [base]))[0]!.equals((await applied(from, [base]))[0]!));
  const reader = await LogReader.open(to);
  const frames = (await reader.index()).map(({ offset, length, source }) => [offset, length, source?.offset]);
  await reader.close();
  assert.deepEqual(frames, [
    [7 * CLUSTER, CLUSTER, undefined],
    [3 * CLUSTER, CLUSTER, undefined],
    [5 * CLUSTER, CLUSTER, 3 * CLUSTER],
    [9 * CLUSTER + PAGE, CLUSTER - PAGE, undefined],
    [11 * CLUSTER, CLUSTER, 7 * CLUSTER],
  ]);
  assert.equal(footer!.referenceBytes, 2 * CLUSTER);
});

void test('another salt is taken for each question', async () => {
  const world = writes(30);
  await captured(join(directory, 'captured'), world);
  const asked: PagesInDoubt[] = [];
  const input = { from: join(directory, 'captured'), to: join(directory, 't'), level: 1, most: Infinity };
  for (const digit of '23') await thinLog({ ...input, header: header(digit.repeat(32)) }, replica(world.base, asked));
  assert.equal(new Set(asked.map(({ salt }) => salt)).size, asked.length);
});

void test('one that would hardly be thinner is given up', async () => {
  const base = SIZES.map((size) => randomBytes(size));
  const { from, footer } = await thin({ base, changed: SIZES.map((size) => randomBytes(size)) }, 1000 * KIB);
  assert.ok((await stat(from)).size > 1000 * KIB);
  assert.equal(footer, null);
});

void test('more than one question can hold is asked in several', async () => {
  const count = 9000;
  const base = Buffer.alloc(2 * count * PAGE);
  const changed = Buffer.from(base);
  const disks = [{ target: 'vda', size: base.length }];
  const from = join(directory, 'many');
  const to = join(directory, 'some-of-many');
  const writer = await LogWriter.create(from, { ...header('1'.repeat(32)), disks }, { compression: 1 });
  for (let i = 0; i < count; i++) {
    const offset = 2 * i * PAGE;
    if (i % 3 === 0) changed.writeUInt32LE(i + 1, offset);
    await writer.data(0, offset, changed.subarray(offset, offset + PAGE));
  }
  await writer.finish({ durable: false });
  const asked: PagesInDoubt[] = [];
  const input = { from, to, header: { ...header('2'.repeat(32)), disks }, level: 1, most: Infinity };
  const footer = await thinLog(input, replica([base], asked));
  assert.equal(asked.length, 2);
  assert.equal(footer!.dataBytes, (count / 3) * PAGE);
  assert.ok((await applied(to, [base]))[0]!.equals(changed));
});
