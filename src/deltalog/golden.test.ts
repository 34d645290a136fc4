import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { BEFORE, type Change, GOLDEN_FILES, SHAPES, writeLog } from '../../test/vectors/delta-logs.ts';
// @ts-expect-error: plain JavaScript, written from FORMAT.md alone
import { applyDeltaLog as untypedApply, readDeltaLog as untyped } from '../../test/vectors/read-delta-log.js';
import type { Position } from '../model/relationship.ts';
import type { Place } from './frame.ts';
import { checkReferences, LogReader, resumeParser } from './reader.ts';

interface IndependentFrame {
  readonly kind: string;
  readonly disk: number;
  readonly offset: number;
  readonly length: number;
  readonly data?: Buffer;
  readonly source?: Place;
}
interface IndependentLog {
  readonly header: { readonly follows: Position };
  readonly frames: IndependentFrame[];
  readonly footer: { readonly makes: Position; readonly logDigest: string };
}
const readDeltaLog = untyped as (log: Buffer) => IndependentLog;
const applyDeltaLog = untypedApply as (before: readonly Buffer[], log: IndependentLog) => Buffer[];

function expected(change: Change, all: readonly Change[]): IndependentFrame {
  const { disk, offset } = change;
  if ('same' in change) {
    const { same: source, length } = change;
    const from = all.find((other) => 'data' in other && other.disk === source.disk && other.offset <= source.offset)!;
    assert.ok('data' in from);
    const data = from.data.subarray(source.offset - from.offset, source.offset - from.offset + length);
    return { kind: 'reference', disk, offset, length, data, source };
  }
  if ('data' in change) return { kind: 'data', disk, offset, length: change.data.length, data: change.data };
  return { kind: 'zero', disk, offset, length: change.zeros, data: undefined! };
}

for (const { path, header: said, changes, compression, makes } of GOLDEN_FILES) {
  test(`${basename(path)} is read by the reader that knows only FORMAT.md, and by ours`, async () => {
    const log = await readFile(path);
    const { header, frames, footer } = readDeltaLog(log);
    assert.deepEqual(header, said);
    assert.deepEqual(
      frames.map(({ data, source, ...frame }) => ({
        ...frame,
        data: data && Buffer.from(data),
        ...(source === undefined ? {} : { source }),
      })),
      changes.map((change) => expected(change, changes)),
    );
    await checkReferences(path, await resumeParser(path));
    const format = await readFile(join(import.meta.dirname, 'FORMAT.md'), 'utf8');
    for (const named of [footer.makes.state, footer.logDigest]) assert.ok(format.includes(named), named);
    const reader = await LogReader.open(path);
    assert.deepEqual(reader.footer, footer);
    for (const [i, entry] of (await reader.index()).entries()) {
      const { kind, disk, offset, length, data, source } = expected(changes[i]!, changes);
      assert.deepEqual([entry.disk, entry.offset, entry.length, entry.source], [disk, offset, length, source]);
      if (kind === 'data') assert.ok((await reader.data(entry)).equals(data!));
    }
    await reader.close();
  });

  test(`every flipped byte of ${basename(path)} is noticed by the reader that knows only FORMAT.md`, async () => {
    const log = await readFile(path);
    for (let at = 0; at < log.length; at++) {
      // two bytes of the prelude are reserved and covered by the header's digest, as all of it is
      log[at] = log[at]! ^ 1;
      assert.throws(() => readDeltaLog(log), `byte ${at}`);
      log[at] = log[at]! ^ 1;
    }
  });

  if (compression === 0) {
    test(`${basename(path)} is what the writer writes`, async () => {
      const directory = await mkdtemp(join(tmpdir(), 'understudy-golden-'));
      const written = await writeLog(join(directory, 'log'), said, changes, compression, makes);
      await rm(directory, { recursive: true });
      assert.ok(written.equals(await readFile(path)));
    });
  }
}

test('the golden logs of changing shapes lead there and back, in sizes and bytes', async () => {
  const [reshape, undo] = await Promise.all(
    ['reshape', 'undo'].map(async (kind) => {
      const { path } = GOLDEN_FILES.find((file) => file.path.endsWith(`.${kind}`))!;
      return readDeltaLog(await readFile(path));
    }),
  );
  assert.deepEqual(undo!.header.follows, reshape!.footer.makes);
  assert.deepEqual(undo!.footer.makes, reshape!.header.follows);
  const after = applyDeltaLog(BEFORE, reshape!);
  assert.deepEqual(
    after.map(({ length }) => length),
    SHAPES.after.map(({ size }) => size),
  );
  const [vda, vdb, vdc] = after;
  assert.ok(vda!.subarray(0, 100_000).equals(BEFORE[0]!.subarray(0, 100_000)));
  assert.equal(vda!.toString('latin1', 100_000, 100_008), 'end end ');
  assert.ok(vdb!.subarray(71_000).equals(Buffer.alloc(200_192 - 71_000)), 'what is gained reads as zeros');
  assert.equal(vdc!.toString('latin1', 510, 516), '\0\0adde');
  const back = applyDeltaLog(after, undo!);
  assert.equal(back.length, BEFORE.length);
  for (const [i, disk] of back.entries()) assert.ok(disk.equals(BEFORE[i]!), `disk ${i}`);
});
