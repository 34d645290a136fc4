/** Delta logs for tests: what is in them, and how they are made. `node delta-logs.ts` writes the golden files anew. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Place } from '../../src/deltalog/frame.ts';
import type { LogHeader } from '../../src/deltalog/header.ts';
import { LogWriter } from '../../src/deltalog/writer.ts';
import type { Position } from '../../src/model/relationship.ts';

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
  makes?: Position,
): Promise<Buffer> {
  const writer = await LogWriter.create(path, header, { compression });
  for (const change of changes) {
    if ('data' in change) await writer.data(change.disk, change.offset, change.data);
    else if ('zeros' in change) await writer.zero(change.disk, change.offset, change.zeros);
    else await writer.reference(change.disk, change.offset, change.length, change.same);
  }
  await writer.finish({ durable: false, ...(makes === undefined ? {} : { makes }) });
  return await readFile(path);
}

const pattern = (length: number, factor: number) => Buffer.from(Array.from({ length }, (_, i) => (i * factor) & 255));

/** What the golden logs hold. */
export const GOLDEN: readonly Change[] = [
  { disk: 0, offset: 65_536, data: pattern(512, 7) },
  { disk: 0, offset: 1024 ** 3 - 4096, zeros: 4096 },
  { disk: 1, offset: 0, data: Buffer.alloc(2048, 'understudy ') },
  { disk: 1, offset: 99_999, data: Buffer.from([255]) },
  { disk: 1, offset: 65_400, data: pattern(300, 11) }, // of two blocks
  { disk: 0, offset: 0, zeros: 65_536 },
];

/** And one with references, before and behind what they name. */
export const GOLDEN_REFERENCES: readonly Change[] = [
  { disk: 0, offset: 1_048_576, same: { disk: 0, offset: 3_211_264 }, length: 131_072 },
  { disk: 0, offset: 3_145_728, data: Buffer.alloc(196_608, 'more than once ') },
  { disk: 1, offset: 0, same: { disk: 0, offset: 3_145_728 }, length: 65_536 },
  { disk: 1, offset: 65_536, data: Buffer.alloc(1024, 'once ') },
];

/** The disks of golden states that differ in shape: one becomes shorter, one longer, and one is added. */
export const SHAPES = {
  before: [
    { target: 'vda', size: 300_000 },
    { target: 'vdb', size: 70_144 },
  ],
  after: [
    { target: 'vda', size: 100_352 },
    { target: 'vdb', size: 200_192 },
    { target: 'vdc', size: 4096 },
  ],
} as const;

/** What the disks of the former shape hold. */
export const BEFORE: readonly Buffer[] = SHAPES.before.map(({ size }) => Buffer.alloc(size, 'before '));

/** From the former shape to the latter. */
export const GOLDEN_RESHAPE: readonly Change[] = [
  { disk: 0, offset: 100_000, data: Buffer.alloc(352, 'end ') },
  { disk: 1, offset: 70_000, data: Buffer.alloc(1000, 'grown ') },
  { disk: 2, offset: 512, data: Buffer.alloc(512, 'added ') },
];

/** And back: all of the end that was cut off is in it, and nothing beyond the ends of then. */
export const GOLDEN_UNDO: readonly Change[] = [
  { disk: 0, offset: 100_000, data: BEFORE[0]!.subarray(100_000, 150_000) },
  { disk: 0, offset: 150_000, data: BEFORE[0]!.subarray(150_000) },
  { disk: 1, offset: 70_000, data: BEFORE[1]!.subarray(70_000) },
];

export interface GoldenFile {
  readonly path: string;
  readonly header: LogHeader;
  readonly changes: readonly Change[];
  readonly compression: number;
  /** Of an undo log: the position that it makes. */
  readonly makes?: Position;
}

const golden = (kind: string, file: Partial<GoldenFile>): GoldenFile => ({
  path: join(import.meta.dirname, `delta-log-1.${kind}`),
  header: HEADER,
  changes: GOLDEN,
  compression: 3,
  ...file,
});

const RESHAPE = golden('reshape', { header: { ...HEADER, disks: [...SHAPES.after] }, changes: GOLDEN_RESHAPE });
/** The state that it makes. */
const RESHAPED: Position = { epoch: 1, sequence: 7, state: '393d40c8826636e534084ffae4a2c186' };

export const GOLDEN_FILES = [
  golden('plain', { compression: 0 }),
  golden('zstd', {}),
  golden('references', { changes: GOLDEN_REFERENCES }),
  RESHAPE,
  golden('undo', {
    header: {
      ...HEADER,
      direction: 'undo',
      disks: [...SHAPES.before],
      follows: RESHAPED,
      sequence: 6,
      point: { ...HEADER.point!, sequence: 6 },
    },
    changes: GOLDEN_UNDO,
    makes: HEADER.follows,
  }),
  golden('gone', {
    header: { ...HEADER, disks: [HEADER.disks[0]!, { ...HEADER.disks[1]!, gone: true }] },
    changes: GOLDEN.filter(({ disk }) => disk === 0),
    compression: 0,
  }),
] as const;

if (import.meta.main) {
  for (const { path, header, changes, compression, makes } of GOLDEN_FILES) {
    await rm(path, { force: true });
    await writeLog(path, header, changes, compression, makes);
  }
}
