import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { FrameKind } from '../deltalog/frame.ts';
import { WRITER } from '../deltalog/header.ts';
import { LogParser } from '../deltalog/parser.ts';
import { LogReader } from '../deltalog/reader.ts';
import { LogWriter } from '../deltalog/writer.ts';
import { Failure } from '../model/failure.ts';
import { writeMerged } from './merge.ts';
import { readUndo, type UndoLog } from './undo-chain.ts';

const DISKS = [
  { target: 'vda', size: 40_000 },
  { target: 'vdb', size: 9000 },
];

/** A change: where nothing is said, bytes are `undefined`. */
type Bytes = (number | undefined)[][];
interface Run {
  readonly disk: number;
  readonly offset: number;
  readonly length: number;
  /** Null: zeros. */
  readonly fill: number | null;
}
const nothing = (): Bytes => DISKS.map(({ size }) => Array.from<number | undefined>({ length: size }));

const runs = fc.array(
  fc.record({
    disk: fc.nat(1),
    offset: fc.nat(8999),
    length: fc.integer({ min: 1, max: 6000 }),
    fill: fc.option(fc.integer({ min: 1, max: 255 })),
  }),
  { maxLength: 12 },
);

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'us-m-'));
});
after(async () => {
  await rm(directory, { recursive: true });
});

const position = (sequence: number) => ({ epoch: 1, sequence, state: String(sequence).padStart(32, '0') });

/** An undo log from `sequence` to the one before; its frames don't overlap each other, as those of undo logs don't. */
async function undoLog(sequence: number, made: Bytes, wanted: readonly Run[]): Promise<UndoLog> {
  const path = join(directory, `${sequence}.undo`);
  const makes = position(sequence - 1);
  const header = {
    writer: WRITER,
    relationship: '11111111-2222-4333-8444-555555555555',
    logId: randomBytes(16).toString('hex'),
    direction: 'undo' as const,
    disks: DISKS,
    follows: position(sequence),
    sequence: makes.sequence,
    epoch: 1,
    point: { sequence: makes.sequence, epoch: 1, instant: 0, confirmed: 0, kind: 'crash-consistent' as const },
    created: 0,
  };
  const writer = await LogWriter.create(path, header, { compression: 1 });
  for (const run of wanted) {
    const { disk, fill } = run;
    const bytes = made[disk]!;
    const end = Math.min(run.offset + run.length, DISKS[disk]!.size);
    let { offset } = run;
    while (offset < end && bytes[offset] !== undefined) offset++;
    let stop = offset;
    while (stop < end && bytes[stop] === undefined) stop++;
    if (stop === offset) continue;
    const data = Buffer.alloc(stop - offset);
    if (fill !== null) for (let i = 0; i < data.length; i++) data[i] = ((i % 7) * 31 + fill) % 256;
    for (let i = offset; i < stop; i++) bytes[i] = data[i - offset];
    if (fill === null) await writer.zero(disk, offset, stop - offset);
    else await writer.data(disk, offset, data);
  }
  await writer.finish({ makes, durable: false });
  return await readUndo(path);
}

async function content(path: string): Promise<Bytes> {
  const out = nothing();
  const reader = await LogReader.open(path);
  try {
    for (const frame of await reader.index()) {
      const data = frame.kind === FrameKind.zero ? Buffer.alloc(frame.length) : await reader.data(frame);
      for (let i = 0; i < frame.length; i++) {
        assert.equal(out[frame.disk]![frame.offset + i], undefined, 'no byte is said twice');
        out[frame.disk]![frame.offset + i] = data[i];
      }
    }
  } finally {
    await reader.close();
  }
  return out;
}

void describe('two undo logs merged', () => {
  void test('say of every byte what the older says, else the newer, and make a whole log', async () => {
    await fc.assert(
      fc.asyncProperty(runs, runs, async (first, second) => {
        const [old, young] = [nothing(), nothing()];
        const older = await undoLog(5, old, first);
        const newer = await undoLog(6, young, second);
        const temporary = join(directory, 'merged');
        const merged = await writeMerged({ older, newer, temporary, pace: async () => undefined });
        const expected = old.map((bytes, disk) => bytes.map((byte, i) => byte ?? young[disk]![i]));
        assert.deepEqual(await content(temporary), expected);
        const parser = new LogParser();
        parser.push(await readFile(temporary));
        assert.ok(parser.complete);
        const { size } = await stat(temporary);
        assert.deepEqual({ ...(await readUndo(temporary)), path: newer.path }, { ...merged, bytes: size });
        assert.deepEqual(merged.follows, newer.follows);
        assert.deepEqual(merged.makes, older.makes);
        assert.deepEqual(merged.point, older.point);
      }),
      { numRuns: 60 },
    );
  });

  void test('leave nothing when the merge is ended before its time', async () => {
    const frame = [{ disk: 0, offset: 0, length: 5000, fill: 3 }];
    const older = await undoLog(5, nothing(), frame);
    const newer = await undoLog(6, nothing(), [{ ...frame[0]!, offset: 6000 }]);
    const temporary = join(directory, 'cut');
    let left = 1;
    const pace = async (): Promise<void> => {
      if (left-- === 0) throw new Failure('interrupted', 'ended');
    };
    await assert.rejects(writeMerged({ older, newer, temporary, pace }), { code: 'interrupted' });
    assert.ok(!(await readdir(directory)).includes('cut'));
  });

  void test('are refused when a frame of theirs is damaged', async () => {
    const older = await undoLog(5, nothing(), [{ disk: 0, offset: 0, length: 5000, fill: 3 }]);
    const newer = await undoLog(6, nothing(), []);
    const bytes = await readFile(older.path);
    const reader = await LogReader.open(older.path);
    const [frame] = await reader.index();
    await reader.close();
    bytes[frame!.at + 60]! ^= 1;
    await writeFile(older.path, bytes);
    const temporary = join(directory, 'damaged');
    await assert.rejects(writeMerged({ older, newer, temporary, pace: async () => undefined }), { code: 'bad-log' });
    assert.ok(!(await readdir(directory)).includes('damaged'));
  });
});
