/** Capturing in several lanes, against an oracle: disks with many equal blocks come out byte for byte, and go in once. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { HEADER } from '../../test/vectors/delta-logs.ts';
import { FrameKind, REFERENCE_BLOCK as BLOCK } from '../deltalog/frame.ts';
import type { LogFooter, LogHeader } from '../deltalog/header.ts';
import { checkReferences, LogReader, resumeParser, type FrameEntry } from '../deltalog/reader.ts';
import type { WrittenSegment } from '../deltalog/segment.ts';
import { SegmentedLog } from '../deltalog/segmented-log.ts';
import { digest } from '../lib/digest.ts';
import { Lanes, workerModule } from '../lanes/lanes.ts';
import type { ChangedExtent } from '../model/extent.ts';
import { NbdServer } from '../qemu/nbd/server.ts';
import type { CaptureInput } from './capture.worker.ts';
import { Twins } from './twins.ts';
import { comparison, type Work } from './work.ts';

const CAPTURE = { module: workerModule(import.meta.url, './capture'), name: 'capture' };
const SIZES = [256 * BLOCK + 4608, 70 * BLOCK];
/** Small items, so that each lane gets many. */
const ITEM = 2 * BLOCK * 8;

let directory: string;
let server: NbdServer;
let lanes: Lanes;
let disks: Buffer[] = [];
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'us-capture-'));
  server = await NbdServer.listen({ socketPath: join(directory, 'nbd') });
  for (const [i, size] of SIZES.entries()) {
    const read = async (offset: number, length: number) => ({ parts: [disks[i]!.subarray(offset, offset + length)] });
    server.addExport(`vd${'ab'[i]}`, { size, read });
  }
  lanes = new Lanes(3);
});
after(async () => {
  await lanes.close();
  await server.close();
  await rm(directory, { recursive: true });
});

const below = (limit: number): number => Math.floor(Math.random() * limit);

/** Disks of blocks out of a few, of random ones, of zeros and of one page again and again; in runs, and one by one. */
function manyEqual(kinds: number): Buffer[] {
  const few = Array.from({ length: kinds }, () => randomBytes(BLOCK));
  few.push(Buffer.alloc(BLOCK, 'a page '), Buffer.alloc(BLOCK, 7));
  return SIZES.map((size) => {
    const disk = Buffer.alloc(size);
    for (let at = 0; at < size;) {
      const run = 1 + below(6);
      const first = below(few.length);
      for (let i = 0; i < run && at < size; i++, at += BLOCK) {
        const what = below(5);
        if (what === 0) randomBytes(Math.min(BLOCK, size - at)).copy(disk, at);
        else if (what > 1) few[(first + i) % few.length]!.copy(disk, at);
      }
    }
    return disk;
  });
}

const header: LogHeader = { ...HEADER, disks: SIZES.map((size, i) => ({ target: `vd${'ab'[i]}`, size })) };

interface Captured {
  readonly path: string;
  readonly footer: LogFooter;
  readonly entries: readonly FrameEntry[];
}

/** All that isn't in `theirs`, in as many lanes as there are. */
async function capture(
  theirs: readonly Buffer[],
  zlevel: number,
  twins = Twins.memoryFor(SIZES[0]!),
): Promise<Captured> {
  const path = join(directory, 'log');
  const log = await SegmentedLog.create(path, header);
  const exports = header.disks.map(({ target }) => ({ socketPath: server.socketPath, exportName: target }));
  const level = new SharedArrayBuffer(4);
  new Int32Array(level)[0] = zlevel;
  const input: CaptureInput = { exports, path, place: log.place, level, known: [], twins };
  const works = SIZES.flatMap((size, disk): Work[] => {
    const all: ChangedExtent[] = [{ offset: 0, length: size, zero: false }];
    const digests = Buffer.alloc(Math.ceil(size / BLOCK) * 16);
    for (let at = 0; at < theirs[disk]!.length; at += BLOCK) {
      digest(theirs[disk]!.subarray(at, at + BLOCK)).copy(digests, (at / BLOCK) * 16);
    }
    return [...comparison(disk, { from: 0, to: size }, all, digests, ITEM)];
  });
  const run = () =>
    lanes.run(CAPTURE, input, {
      onAsked: async () => works.shift() ?? null,
      onTold: (segment) => log.add(segment as WrittenSegment),
    });
  await Promise.all(Array.from({ length: lanes.count }, run));
  const footer = await log.finish();
  await checkReferences(path, await resumeParser(path));
  const reader = await LogReader.open(path);
  const entries = await reader.index();
  await reader.close();
  return { path, footer, entries };
}

/** What the log makes of disks: first all but its references, then those. */
async function applied({ path, entries }: Captured, onto: readonly Buffer[]): Promise<Buffer[]> {
  const out = onto.map((disk) => Buffer.from(disk));
  const reader = await LogReader.open(path);
  for (const entry of entries) {
    if (entry.kind === FrameKind.zero) out[entry.disk]!.fill(0, entry.offset, entry.offset + entry.length);
    if (entry.kind === FrameKind.data) (await reader.data(entry)).copy(out[entry.disk]!, entry.offset);
  }
  await reader.close();
  for (const { disk, offset, length, source } of entries) {
    if (source !== undefined) out[source.disk]!.copy(out[disk]!, offset, source.offset, source.offset + length);
  }
  return out;
}

function distinct(): number {
  const blocks = disks.flatMap((disk) =>
    Array.from({ length: Math.floor(disk.length / BLOCK) }, (_, i) =>
      digest(disk.subarray(i * BLOCK, (i + 1) * BLOCK)).toString('hex'),
    ),
  );
  return new Set(blocks).size;
}

const nothing = SIZES.map(() => Buffer.alloc(0));

void describe('capturing disks with equal blocks', () => {
  void test('gives a log that makes them byte for byte, whatever the lanes do, whatever the replica has', async () => {
    let referenceBytes = 0;
    for (let round = 0; round < 8; round++) {
      disks = manyEqual(1 + below(30));
      const before = SIZES.map((size) => Buffer.alloc(size, round));
      if (round % 2 === 1) {
        for (const [i, disk] of before.entries()) {
          for (let at = 0; at < disk.length; at += BLOCK) if (below(3) === 0) disks[i]!.copy(disk, at, at, at + BLOCK);
        }
      }
      const captured = await capture(round % 2 === 1 ? before : nothing, below(2));
      const after = await applied(captured, before);
      for (const [i, disk] of disks.entries()) assert.ok(after[i]!.equals(disk), `disk ${i} in round ${round}`);
      referenceBytes += captured.footer.referenceBytes;
    }
    assert.ok(referenceBytes > 8 * 50 * BLOCK, `${referenceBytes} bytes in references`);
  });

  void test('each block goes in once, but for those that lanes meet in the same moment', async () => {
    disks = manyEqual(10);
    const { footer, entries } = await capture(nothing, 0);
    const blocks = footer.dataBytes / BLOCK;
    assert.ok(blocks >= distinct() && blocks <= distinct() + 30, `${blocks} blocks, ${distinct()} are distinct`);
    const references = entries.filter(({ kind }) => kind === FrameKind.reference);
    assert.ok(references.length * BLOCK < footer.referenceBytes, 'neighbours are one reference');
  });

  void test('what packs to nothing is packed, not referred to', async () => {
    disks = SIZES.map((size) => Buffer.alloc(size, 1));
    const { footer } = await capture(nothing, 1);
    assert.equal(footer.referenceBytes, 0);
    const plain = await capture(nothing, 0);
    assert.ok(plain.footer.referenceBytes > plain.footer.dataBytes);
  });

  void test('with a full table the log is as good, with fewer references', async () => {
    disks = SIZES.map((size) => randomBytes(size));
    disks[0]!.copy(disks[1]!, 0, 0, SIZES[1]);
    const tiny = new SharedArrayBuffer(4 * (8 + 16 * 8));
    const captured = await capture(nothing, 1, tiny);
    assert.ok(captured.footer.referenceBytes <= 16 * BLOCK);
    const after = await applied(
      captured,
      SIZES.map((size) => Buffer.alloc(size)),
    );
    for (const [i, disk] of disks.entries()) assert.ok(after[i]!.equals(disk), `disk ${i}`);
  });
});

void test('a table takes 32 bytes for half a block, in bounds', () => {
  const sizes = [0, 100 * 2 ** 20, 4 * 2 ** 30, 2 ** 50].map((bytes) => Twins.memoryFor(bytes).byteLength - 32);
  assert.deepEqual(sizes, [2 ** 15, 4096 * 32, 131_072 * 32, 2 ** 25]);
});

void test('a block far out on a disk is named as it is', () => {
  const twins = new Twins(Twins.memoryFor(0));
  const place = { disk: 999, offset: 2 ** 52 - BLOCK };
  const far = digest(Buffer.from('far'));
  assert.equal(twins.find(far, place), undefined);
  assert.deepEqual(twins.find(far, { disk: 0, offset: 0 }), place);
  assert.equal(twins.find(digest(Buffer.from('other')), { disk: 0, offset: 0 }), undefined);
});
