/** Where the references of a log may lead, at the front door: what else is sent is refused before it is acknowledged. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Change, GOLDEN_REFERENCES, HEADER, writeLog } from '../../test/vectors/delta-logs.ts';
import { REFERENCE_BLOCK as BLOCK } from './frame.ts';
import type { LogHeader } from './header.ts';
import { land, newProgress, type Landed } from './landing.ts';
import { MAX_REFERENCED, References } from './references.ts';

let directory: string;
before(async () => (directory = await mkdtemp(join(tmpdir(), 'understudy-references-'))));
after(() => rm(directory, { recursive: true }));

async function landed(changes: readonly Change[], header: LogHeader = HEADER): Promise<Landed> {
  const log = await writeLog(join(directory, 'log'), header, changes, 1);
  const path = join(directory, 'part');
  await rm(path, { force: true });
  const body = async function* () {
    for (let at = 0; at < log.length; at += 10_000) yield [await Promise.resolve(log.subarray(at, at + 10_000))];
  };
  const landing = { path, sequence: 7, offset: 0, progress: newProgress(), floor: 0 };
  return await land(landing, body(), () => undefined, new AbortController().signal);
}

const data = (block: number, count = 1, disk = 0): Change => ({
  disk,
  offset: block * BLOCK,
  data: Buffer.alloc(count * BLOCK, `${block} `),
});
const zeros = (block: number, count = 1): Change => ({ disk: 0, offset: block * BLOCK, zeros: count * BLOCK });
const same = (block: number, as: number, count = 1): Change => ({
  disk: 0,
  offset: block * BLOCK,
  same: { disk: 0, offset: as * BLOCK },
  length: count * BLOCK,
});
const bytes = (offset: number, length: number): Change => ({ disk: 0, offset, data: Buffer.alloc(length, 'x') });

const GOOD: readonly [string, readonly Change[]][] = [
  ['before and behind what they name', GOLDEN_REFERENCES],
  ['to blocks in several data frames', [data(0), data(1, 2), data(3), same(10, 0, 4)]],
  ['to the same block, often', [data(5), same(1, 5), same(2, 5), same(3, 5)]],
  [
    'beside data that is nobody’s source',
    [bytes(0, 100), data(1), bytes(2 * BLOCK, 1), same(7, 1), bytes(7 * BLOCK - 1, 1)],
  ],
  ['beside frames that cover the same bytes, elsewhere', [data(1), data(20, 3), zeros(21), same(2, 1)]],
];

const BAD: readonly [string, readonly Change[], RegExp][] = [
  ['itself', [same(1, 1)], /0\+65536 is referred to and is a reference itself/],
  ['a part of itself', [data(1), same(2, 1, 2)], /0\+131072 is referred to and is a reference itself/],
  ['another reference', [data(1), same(2, 1), same(3, 2)], /0\+131072 is referred to and is a reference itself/],
  ['each other', [same(2, 1), same(1, 2)], /is a reference itself/],
  ['nothing', [data(1), same(3, 2)], /0\+131072 is referred to and is not in the delta log/],
  ['more than there is', [data(1), same(3, 1, 2)], /0\+131072 is referred to and is not in the delta log/],
  ['zeros', [zeros(0, 9), same(20, 3)], /0\+196608 is referred to and is zeros/],
  [
    'what becomes zeros in part',
    [data(3), { disk: 0, offset: 4 * BLOCK - 1, zeros: 9 }, same(20, 3)],
    /is zeros, in part/,
  ],
  ['a block that is there twice', [data(3), data(2, 3), same(20, 3)], /0\+196608 .* is not in one data frame alone/],
  ['a block that is changed again', [data(3), bytes(4 * BLOCK - 1, 1), same(20, 3)], /not in one data frame alone/],
  ['a block in pieces', [bytes(BLOCK, 4096), bytes(BLOCK + 4096, BLOCK - 4096), same(9, 1)], /not in one data frame/],
  ['a block that is there in part', [bytes(BLOCK, BLOCK - 1), same(9, 1)], /not in one data frame alone/],
  [
    'the same bytes of another disk',
    [data(1, 1), { ...data(0, 1, 1) }, { ...same(9, 0) }],
    /0\+0 is referred to and is not/,
  ],
];

const TWICE: readonly [string, readonly Change[]][] = [
  ['two references', [data(1), data(2), same(3, 1), same(3, 2)]],
  ['a reference that is within another', [data(0, 3), same(8, 0, 3), same(9, 0)]],
  ['a reference and data', [data(1), same(3, 1), bytes(3 * BLOCK + 9, 1)]],
  ['zeros and a reference', [data(1), zeros(2, 3), same(3, 1)]],
];

void describe('references of a log are taken', () => {
  for (const [what, changes] of GOOD) {
    void test(what, async () => assert.equal((await landed(changes)).footer.frames, changes.length));
  }
});

void describe('a log is refused', () => {
  for (const [what, changes, message] of BAD) {
    void test(`for a reference to ${what}`, () => assert.rejects(landed(changes), { code: 'bad-log', message }));
  }
  for (const [what, changes] of TWICE) {
    const message = /is made by (two references|a reference and by another frame)/;
    void test(`where a block is made by ${what}`, () => assert.rejects(landed(changes), { code: 'bad-log', message }));
  }

  void test('for a bad reference also when only its end is still to come, again and again', async () => {
    await assert.rejects(landed([same(1, 1)]), { code: 'bad-log' });
    const path = join(directory, 'part');
    const kept = await readFile(path);
    const landing = { path, sequence: 7, offset: kept.length, progress: newProgress(), floor: 0 };
    const nothing = async function* (): AsyncGenerator<Uint8Array[]> {};
    const again = land(landing, nothing(), () => undefined, new AbortController().signal);
    await assert.rejects(again, { code: 'bad-log', message: /is a reference itself/ });
    await writeFile(path, '');
  });

  void test('for more references than it may have, before they are held', () => {
    const references = new References();
    const head = { kind: 3, codec: 0, disk: 0, stored: 0, length: 64 * BLOCK, digest: Buffer.alloc(0) } as const;
    const at = (i: number) => ({ ...head, offset: i * 64 * BLOCK, source: { disk: 1, offset: 0 } });
    for (let i = 0; i < MAX_REFERENCED / 64; i++) references.add(at(i));
    assert.throws(() => references.add(at(MAX_REFERENCED)), { code: 'bad-log', message: /more than 1048576 blocks/ });
    assert.equal(references.count, MAX_REFERENCED);
  });

  void test('for what many references lead to, with an index of many frames, in no time', async () => {
    const many = Array.from({ length: 30_000 }, (_, i): Change => ({ ...bytes(BLOCK * 64 + i, 1) }));
    const references = Array.from({ length: 2000 }, (_, i) => same(5000 + i, i % 50));
    await assert.doesNotReject(landed([...many, data(0, 50), ...references]));
    await assert.rejects(landed([...references, ...many, data(0, 49)]), { code: 'bad-log' });
  });
});
