import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { HEADER } from '../../test/vectors/delta-logs.ts';
import { FrameKind } from './frame.ts';
import { LogParser } from './parser.ts';
import { LogReader, unpack } from './reader.ts';
import { Place, Segment, type WrittenSegment } from './segment.ts';
import { SegmentedLog } from './segmented-log.ts';

let directory: string;
let path: string;
let file: FileHandle | undefined;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'us-segments-'));
  path = join(directory, 'log');
});
afterEach(async () => {
  await file?.close();
  file = undefined;
  await rm(directory, { recursive: true });
});

const text = (length: number, mark: number) => Buffer.alloc(length, `mark ${mark} `);

async function begin(): Promise<{ log: SegmentedLog; write: (segment: Segment) => Promise<WrittenSegment> }> {
  await file?.close();
  const log = await SegmentedLog.create(path, HEADER);
  const handle = (file = await open(path, 'r+'));
  const place = new Place(log.place);
  return { log, write: (segment) => segment.write(handle, place) };
}

void test('segments of several writers make one log, whatever the order in which they are told of', async () => {
  const order = fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: 6 });
  await fc.assert(
    fc.asyncProperty(order, fc.constantFrom(0, 1, 3), async (told, level) => {
      const { log, write } = await begin();
      const written: WrittenSegment[] = [];
      for (let i = 0; i < told.length; i++) {
        const segment = new Segment();
        segment.data(0, i * 8192, text(4096, i), level);
        if (i % 2 === 0) segment.zero(1, i * 4096, 4096);
        segment.data(0, i * 8192 + 4096, randomBytes(100), level);
        written.push(await write(segment));
      }
      for (const i of told) log.add(structuredClone(written[i]!));
      const footer = await log.finish();
      assert.equal(footer.frames, 15);
      assert.equal(footer.dataBytes, 6 * 4196);
      assert.equal(footer.zeroBytes, 3 * 4096);

      const parser = new LogParser();
      const marks: number[] = [];
      parser.push(await readFile(path), (head, payload) => {
        if (head.kind === FrameKind.zero || head.length !== 4096) return;
        marks.push(head.offset / 8192);
        assert.deepEqual(unpack(head, payload), text(4096, head.offset / 8192));
      });
      assert.ok(parser.complete);
      assert.deepEqual(parser.footer, footer);
      assert.deepEqual(marks, [0, 1, 2, 3, 4, 5]);
      const reader = await LogReader.open(path);
      assert.equal((await reader.index()).length, 15);
      await reader.close();
    }),
    { numRuns: 30 },
  );
});

void test('it reaches as far as there is no gap', async () => {
  const { log, write } = await begin();
  const head = log.written;
  const segments: WrittenSegment[] = [];
  for (let i = 0; i < 3; i++) {
    const segment = new Segment();
    segment.data(0, i * 4096, text(4096, i), 0);
    segments.push(await write(segment));
  }
  const bytes = segments[0]!.bytes;
  log.add(segments[1]!);
  assert.equal(log.written, head);
  log.add(segments[0]!);
  assert.equal(log.written, head + 2 * bytes);
  assert.equal(log.dataBytes, 8192);
  log.add(segments[2]!);
  assert.equal(log.written, head + 3 * bytes);
  assert.equal(log.frames, 3);
  const parser = new LogParser();
  parser.push((await readFile(path)).subarray(0, log.written));
  assert.equal(parser.accepted, log.written);
  await log.finish();
  assert.equal(log.written, (await readFile(path)).length);
});

void test('what does not pack is stored as it is, its neighbours after a look; what packs again is packed again', async () => {
  const { log, write } = await begin();
  const segment = new Segment();
  const noise = randomBytes(1024 * 1024);
  const words = text(1024 * 1024, 1);
  const kept = [noise, noise, words, words, noise, words].map((data) => segment.data(0, 0, data, 1));
  assert.deepEqual(kept, [true, true, false, false, true, false]);
  assert.ok(segment.bytes < 3.1 * noise.length);
  log.add(await write(segment));
  await log.finish();
});
