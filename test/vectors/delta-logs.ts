/** Delta logs for tests: what is in them, and how they are made. `node delta-logs.ts` writes the golden files anew. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Place } from '../../src/deltalog/frame.ts';
import type { LogHeader } from '../../src/deltalog/header.ts';
import { LogWriter } from '../../src/deltalog/writer.ts';

export type Change =
  | { readonly disk: number; readonly offset: number; readonly data: Buffer }
  | { readonly disk: number; readonly offset: number; readonly zeros: number }
  | { readonly disk: number; readonly offset: number; readonly same: Place; readonly length: number };

export const HEADER: LogHeader = {
  writer: 'understudy/0.1.0',
  relationship: '0f8fad5b-d9cb-469f-a165-70867728950e',
  logId: '00112233445566778899aabbccddeeff',
  direction: 'forward',
  disks: [
    { target: 'vda', size: 1024 ** 3 },
    { target: 'vdb', size: 100_000 },
  ],
  follows: { epoch: 1, sequence: 6, state: '000102030405060708090a0b0c0d0e0f' },
  sequence: 7,
  epoch: 1,
  point: { sequence: 7, epoch: 1, instant: 1_700_000_000_000, confirmed: 1_700_000_000_000, kind: 'crash-consistent' },
  created: 1_700_000_000_123,
};

/** Writes a log and gives its bytes; the file stays. */
export async function writeLog(
  path: string,
  header: LogHeader,
  changes: readonly Change[],
  compression: number,
): Promise<Buffer> {
  const writer = await LogWriter.create(path, header, { compression });
  for (const change of changes) {
    if ('data' in change) await writer.data(change.disk, change.offset, change.data);
    else if ('zeros' in change) await writer.zero(change.disk, change.offset, change.zeros);
    else await writer.reference(change.disk, change.offset, change.length, change.same);
  }
  await writer.finish({ durable: false });
  return await readFile(path);
}

const pattern = (length: number, factor: number) => Buffer.from(Array.from({ length }, (_, i) => (i * factor) & 255));

/** What the golden logs hold. */
export const GOLDEN: readonly Change[] = [
  { disk: 0, offset: 65_536, data: pattern(512, 7) },
  { disk: 0, offset: 1024 ** 3 - 4096, zeros: 4096 },
  { disk: 1, offset: 0, data: Buffer.alloc(2048, 'understudy ') },
  { disk: 1, offset: 99_999, data: Buffer.from([255]) },
  { disk: 0, offset: 0, zeros: 65_536 },
];

/** And one with references, before and behind what they name. */
export const GOLDEN_REFERENCES: readonly Change[] = [
  { disk: 0, offset: 1_048_576, same: { disk: 0, offset: 3_211_264 }, length: 131_072 },
  { disk: 0, offset: 3_145_728, data: Buffer.alloc(196_608, 'more than once ') },
  { disk: 1, offset: 0, same: { disk: 0, offset: 3_145_728 }, length: 65_536 },
  { disk: 1, offset: 65_536, data: Buffer.alloc(1024, 'once ') },
];

export const GOLDEN_FILES = [
  { path: join(import.meta.dirname, 'delta-log-1.plain'), changes: GOLDEN, compression: 0 },
  { path: join(import.meta.dirname, 'delta-log-1.zstd'), changes: GOLDEN, compression: 3 },
  { path: join(import.meta.dirname, 'delta-log-1.references'), changes: GOLDEN_REFERENCES, compression: 3 },
] as const;

if (import.meta.main) {
  for (const { path, changes, compression } of GOLDEN_FILES) {
    await rm(path, { force: true });
    await writeLog(path, HEADER, changes, compression);
  }
}
