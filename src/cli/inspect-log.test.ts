import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { GOLDEN, GOLDEN_FILES, HEADER, writeLog } from '../../test/vectors/delta-logs.ts';
import { encodeFrameHead, type FrameHead } from '../deltalog/frame.ts';
import { encodeHeader } from '../deltalog/header.ts';
import { run } from '../lib/process.ts';
import { inspectLog, type InspectedFrame } from './inspect-log.ts';

const MAIN = join(import.meta.dirname, 'main.ts');
const [plain, packed, referring] = GOLDEN_FILES;
const directory = mkdtempSync(join(tmpdir(), 'us-inspect-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const file = join(directory, 'log');
function inspectBytes(bytes: Uint8Array) {
  writeFileSync(file, bytes);
  return inspectLog(file);
}
const understudy = (...args: string[]) => run(process.execPath, [MAIN, '--socket', '/nowhere', ...args]);

void describe('a whole log', () => {
  for (const { path, compression } of [plain, packed]) {
    void test(`zstd level ${compression}: every frame, with its place, and the sums`, async () => {
      const frames: InspectedFrame[] = [];
      const log = await inspectLog(path, (frame) => frames.push(frame));
      assert.deepEqual([log.verdict, log.problem, log.goodBytes], ['whole', null, readFileSync(path).length]);
      assert.deepEqual(log.header, HEADER);
      assert.deepEqual(
        frames.map(({ kind, disk, offset, length }) => [kind, disk, offset, length]),
        GOLDEN.map((change) => [
          'data' in change ? 'data' : 'zero',
          HEADER.disks[change.disk]!.target,
          change.offset,
          'data' in change ? change.data.length : 'zeros' in change ? change.zeros : change.length,
        ]),
      );
      const bytes = readFileSync(path);
      for (const { at, stored } of frames) assert.equal(bytes.readUInt32LE(at + 4), stored);
      assert.deepEqual(log.frames, { data: 4, zero: 2, reference: 0, packed: compression === 0 ? 0 : 2 });
      assert.deepEqual([log.dataBytes, log.zeroBytes], [512 + 2048 + 1 + 300, 4096 + 65_536]);
      assert.equal(log.storedBytes < log.dataBytes, compression > 0);
      const { frames: count, coveredBytes, runs, from, to } = log.disks[0]!;
      assert.deepEqual(
        { count, coveredBytes, runs, from, to },
        { count: 3, coveredBytes: 512 + 4096 + 65_536, runs: 2, from: 0, to: 1024 ** 3 },
      );
    });
  }

  void test('what is a reference, and to what', async () => {
    const frames: InspectedFrame[] = [];
    const log = await inspectLog(referring.path, (frame) => frames.push(frame));
    assert.equal(log.verdict, 'whole');
    assert.deepEqual(
      frames.map(({ kind, source }) => [kind, source]),
      [
        ['reference', { disk: 'vda', offset: 3_211_264 }],
        ['data', null],
        ['reference', { disk: 'vda', offset: 3_145_728 }],
        ['data', null],
      ],
    );
    assert.deepEqual([log.frames.reference, log.referenceBytes], [2, 196_608]);
    assert.deepEqual(
      log.disks.map(({ referenceBytes }) => referenceBytes),
      [131_072, 65_536],
    );
    const { stdout } = await understudy('log', 'inspect', referring.path, '--frames');
    assert.match(stdout, / reference +vda\+1048576 +131072 += vda\+3211264$/m);
    assert.match(stdout, /^same as data: +192 KiB$/m);
  });

  void test('an undo log; and one whose frames overlap counts what they cover once', async () => {
    const changes = [
      { disk: 0, offset: 0, data: Buffer.alloc(8192, 1) },
      { disk: 0, offset: 4096, zeros: 8192 },
    ];
    await writeLog(file, { ...HEADER, direction: 'undo', point: null }, changes, 3);
    const { verdict, header, disks } = await inspectLog(file);
    assert.deepEqual([verdict, header?.direction], ['whole', 'undo']);
    assert.deepEqual([disks[0]!.coveredBytes, disks[0]!.runs, disks[1]!.from], [12_288, 1, null]);
  });
});

void describe('a log that is not good', () => {
  void test('cut anywhere it is unfinished, good up to a frame that was whole', async () => {
    const whole = readFileSync(packed.path);
    const borders: number[] = [];
    await inspectLog(packed.path, ({ at }) => borders.push(at));
    for (let size = 0; size < whole.length; size += 7) {
      const { verdict, goodBytes, problem } = await inspectBytes(whole.subarray(0, size));
      assert.equal(verdict, 'unfinished');
      assert.ok(goodBytes <= size);
      assert.ok(goodBytes >= (borders.findLast((at) => at <= size) ?? 0), `${goodBytes} of ${size}`);
      assert.match(problem!.message, new RegExp(`good up to byte ${goodBytes} of ${size}$`));
    }
  });

  void test('a flipped bit is named with its place', async () => {
    const whole = readFileSync(plain.path);
    const frames: InspectedFrame[] = [];
    await inspectLog(plain.path, (frame) => frames.push(frame));
    const { at, offset } = frames[2]!;
    whole[at + 100]! ^= 1;
    const { verdict, goodBytes, problem, disks } = await inspectBytes(whole);
    assert.deepEqual([verdict, goodBytes, problem?.code], ['damaged', at, 'bad-log']);
    assert.match(problem!.message, new RegExp(`disk 1\\+${offset} does not match its digest \\(at byte ${at} of`));
    assert.deepEqual([disks[0]!.frames, disks[1]!.frames], [2, 0], 'what is good before it is told');
  });

  void test('a reference that leads nowhere is named, with the place', async () => {
    const same = { disk: 0, offset: 65_536 };
    await writeLog(file, HEADER, [{ disk: 0, offset: 0, same, length: 65_536 }], 0);
    const { verdict, problem } = await inspectLog(file);
    assert.equal(verdict, 'damaged');
    assert.match(problem!.message, /block at disk 0\+65536 is referred to and is not in the delta log/);
  });

  void test('what is no log, and what follows the end of one', async () => {
    assert.match((await inspectBytes(Buffer.alloc(4096, 'x'))).problem!.message, /not a delta log/);
    const whole = readFileSync(plain.path);
    const { verdict, problem } = await inspectBytes(Buffer.concat([whole, Buffer.from('more')]));
    assert.equal(verdict, 'damaged');
    assert.match(problem!.message, /4 bytes follow the end/);
  });

  void test('a later version, and a frame kind of one, are named', async () => {
    const later = readFileSync(plain.path);
    later.writeUInt16LE(7, 8);
    const version = await inspectBytes(later);
    assert.deepEqual([version.verdict, version.problem?.code], ['unknown', 'format-unknown']);
    assert.match(version.problem!.message, /format version 7; this version reads 1/);

    const head = { kind: 4, codec: 0, disk: 0, stored: 4, offset: 0, length: 4 } as unknown as FrameHead;
    const payload = Buffer.alloc(4);
    const log = Buffer.concat([encodeHeader(HEADER).bytes, encodeFrameHead(head, payload), payload]);
    const kind = await inspectBytes(log);
    assert.equal(kind.verdict, 'unknown');
    assert.match(kind.problem!.message, /frame kind 4 is not known/);
    assert.equal(kind.goodBytes, encodeHeader(HEADER).bytes.length);
  });
});

void describe('understudy log inspect', () => {
  void test('without a daemon: text, or JSON with every frame', async () => {
    const text = await understudy('log', 'inspect', packed.path);
    assert.equal(text.code, 0, text.stderr);
    assert.match(
      text.stdout,
      /^verdict: +whole$[^]*^data: +2\.8 KiB in 605 B: packed to 21 %$[^]*^vdb +97\.7 KiB +3 /m,
    );
    const json = await understudy('log', 'inspect', packed.path, '--json', '--frames');
    const { verdict, listing } = JSON.parse(json.stdout) as { verdict: string; listing: unknown[] };
    assert.deepEqual([verdict, listing.length], ['whole', GOLDEN.length]);
  });

  void test('it fails for a log that is not whole, and says what it is all the same', async () => {
    writeFileSync(file, readFileSync(plain.path).subarray(0, 3000));
    const { code, stdout, stderr } = await understudy('log', 'inspect', file);
    assert.equal(code, 1);
    assert.match(stdout, /^verdict: +unfinished\n/m);
    assert.match(stderr, /^error: the delta log is not finished: it is good up to byte 1098 of 3000\nhint: /);
    const missing = await understudy('log', 'inspect', join(directory, 'none'));
    assert.match(missing.stderr, /^error: There is no file .*none\n/);
  });
});
