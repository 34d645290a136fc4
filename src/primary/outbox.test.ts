import assert from 'node:assert/strict';
import { mkdtemp, open, readdir, readFile, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { WRITER, type LogHeader } from '../deltalog/header.ts';
import { Place, Segment } from '../deltalog/segment.ts';
import { Outbox, type GrowingLog, type Sendable } from './outbox.ts';

const BLOCK = 128 * 1024;
let directory: string;
let outbox: Outbox;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'us-outbox-'));
  outbox = new Outbox(join(directory, 'outbox'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const logId = (number: number) => String(number).padStart(32, '0');

function header(number: number): LogHeader {
  return {
    writer: WRITER,
    relationship: '11111111-2222-4333-8444-555555555555',
    logId: logId(number),
    direction: 'forward',
    disks: [{ target: 'vda', size: 64 * BLOCK }],
    follows: { epoch: 1, sequence: number - 1, state: '0'.repeat(32) },
    sequence: number,
    epoch: 1,
    point: null,
    created: 1_700_000_000_000,
  };
}

const begin = (number: number) => outbox.begin(header(number), BLOCK);
const block = (mark: number) => Buffer.alloc(BLOCK, mark);
const content = async () => await readFile(join(directory, 'outbox', `${logId(1)}.log`));

async function all(log: Sendable, offset: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of log.from(offset)) parts.push(part);
  return Buffer.concat(parts);
}

async function writeSome(log: GrowingLog, blocks: number): Promise<void> {
  const file = await open(log.path, 'r+');
  const place = new Place(log.place);
  const segment = new Segment();
  for (let i = 0; i < blocks; i++) {
    segment.data(0, i * BLOCK, block(i + 1), 0);
    log.add(await segment.write(file, place));
    await turn();
  }
  await file.close();
}

void test('a log is followed from any offset while it is written, to its end', async () => {
  const log = await begin(1);
  const early = [0, 1, 100_000, BLOCK * 5].map((offset) => ({ offset, got: all(log, offset) }));
  await writeSome(log, 5);
  const late = [0, 77, BLOCK * 3].map((offset) => ({ offset, got: all(log, offset) }));
  await writeSome(log, 5);
  await log.finish();
  const whole = await content();
  const done = [0, whole.length - 1, whole.length].map((offset) => ({ offset, got: all(log, offset) }));
  for (const { offset, got } of [...early, ...late, ...done]) {
    assert.ok((await got).equals(whole.subarray(offset)), `from ${offset}`);
  }
});

void test('who follows a log sees what is written before it is finished', async () => {
  const log = await begin(1);
  await writeSome(log, 1);
  const following = log.from(0);
  const first = await following.next();
  assert.ok(first.done !== true && first.value.length > 0);
  assert.equal(log.frames, 1);
  await following.return(undefined);
  await log.abandon(new Error('enough'));
});

void test('whoever follows a log that is given up gets the reason, waiting or not', async () => {
  const log = await begin(1);
  await writeSome(log, 2);
  const waiting = assert.rejects(all(log, 0), /the disk broke/);
  await log.abandon(new Error('the disk broke'));
  await waiting;
  await assert.rejects(all(log, 0), /the disk broke/);
});

void test('a finished log can not be given up any more', async () => {
  const log = await begin(1);
  await writeSome(log, 1);
  await log.finish();
  await log.abandon(new Error('too late'));
  assert.ok((await all(log, 0)).equals(await content()));
});

void test('a finished log is found by the next run, with its footer, and read from any offset', async () => {
  const log = await begin(1);
  await writeSome(log, 3);
  const footer = await log.finish();
  const found = await new Outbox(join(directory, 'outbox')).find(logId(1), 1);
  assert.deepEqual(found?.footer, footer);
  assert.deepEqual(found?.header, header(1));
  const whole = await content();
  for (const offset of [0, 1, BLOCK, whole.length]) {
    assert.ok((await all(found!.log, offset)).equals(whole.subarray(offset)));
  }
});

void test('an unfinished, cut or unknown log is not found', async () => {
  assert.equal(await outbox.find(logId(1), 1), undefined);
  const log = await begin(1);
  await writeSome(log, 2);
  assert.equal(await outbox.find(logId(1), 1), undefined);
  await log.finish();
  assert.equal(await outbox.find(logId(2), 2), undefined);
  const whole = await content();
  const path = join(directory, 'outbox', `${logId(1)}.log`);
  for (const length of [whole.length - 1, whole.length - 16, BLOCK, 1, 0]) {
    await truncate(path, length);
    assert.equal(await outbox.find(logId(1), 1), undefined, `cut to ${length}`);
  }
});

void test('there is one log at a time, and none after clearing', async () => {
  await (await begin(1)).finish();
  await (await begin(2)).finish();
  assert.deepEqual(await readdir(join(directory, 'outbox')), [`${logId(2)}.log`]);
  await outbox.clear();
  await outbox.clear();
  assert.deepEqual(await readdir(directory), []);
});
