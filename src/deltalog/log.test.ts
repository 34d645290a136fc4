import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { type Change, GOLDEN, HEADER, writeLog } from '../../test/vectors/delta-logs.ts';
import { Failure } from '../model/failure.ts';
import { FrameKind } from './frame.ts';
import { LogParser } from './parser.ts';
import { LogReader, resumeParser, unpack } from './reader.ts';
import { LogWriter } from './writer.ts';

let directory: string;
let path: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-log-'));
  path = join(directory, 'log');
});
after(async () => {
  await rm(directory, { recursive: true });
});

/** Bytes that compress or don't, at will, from a seed. */
function bytes(length: number, seed: number, compressible: boolean): Buffer {
  if (compressible) return Buffer.alloc(length, `seed ${seed} `);
  const blocks = Math.ceil(length / 64);
  const parts = Array.from({ length: blocks }, (_, i) => createHash('sha512').update(`${seed} ${i}`).digest());
  return Buffer.concat(parts).subarray(0, length);
}

const change: fc.Arbitrary<Change> = fc
  .record({ disk: fc.nat(1), offset: fc.nat(96_000), length: fc.integer({ min: 1, max: 4000 }), seed: fc.nat() })
  .chain(({ disk, offset, length, seed }) =>
    fc.constantFrom<Change>(
      { disk, offset, zeros: length },
      { disk, offset, data: bytes(length, seed, true) },
      { disk, offset, data: bytes(length, seed, false) },
    ),
  );

/** What a log says, as changes. */
function parse(parser: LogParser, chunks: readonly Buffer[]): Change[] {
  const changes: Change[] = [];
  for (const chunk of chunks) {
    parser.push(chunk, (head, payload) => {
      const { disk, offset } = head;
      if (head.kind === FrameKind.zero) changes.push({ disk, offset, zeros: head.length });
      else changes.push({ disk, offset, data: Buffer.from(unpack(head, payload)) });
    });
  }
  return changes;
}

async function read(file: string): Promise<Change[]> {
  const reader = await LogReader.open(file);
  try {
    const changes: Change[] = [];
    for (const entry of await reader.index()) {
      const { disk, offset, length } = entry;
      if (entry.kind === FrameKind.zero) changes.push({ disk, offset, zeros: length });
      else changes.push({ disk, offset, data: await reader.data(entry) });
    }
    return changes;
  } finally {
    await reader.close();
  }
}

/** Where parts of a log end: header, frames, index, end, trailer. */
function boundaries(log: Buffer): number[] {
  return [0, ...new LogParser().push(log)];
}

/** Small, so that each of its bytes can be tried. */
const SMALL: readonly Change[] = [
  { disk: 0, offset: 4096, data: Buffer.alloc(100, 'x') },
  { disk: 1, offset: 7, zeros: 99_000 },
  { disk: 1, offset: 0, data: Buffer.from('seven b') },
];

describe('a delta log', () => {
  test('comes back as it was written, in whatever pieces it arrives', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { maxLength: 12 }),
        fc.constantFrom(0, 1, 3),
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 }),
        async (changes, compression, sizes) => {
          const log = await writeLog(path, HEADER, changes, compression);
          const chunks: Buffer[] = [];
          for (let at = 0, i = 0; at < log.length; i++) {
            const size = sizes[i % sizes.length]!;
            chunks.push(log.subarray(at, at + size));
            at += size;
          }
          const parser = new LogParser();
          assert.deepEqual(parse(parser, chunks), changes);
          assert.ok(parser.complete && parser.accepted === log.length);
          assert.deepEqual(parser.header, HEADER);
          assert.deepEqual(await read(path), changes);
        },
      ),
      { numRuns: 100 },
    );
  });

  test('arrives byte by byte as well', async () => {
    const log = await writeLog(path, HEADER, GOLDEN, 3);
    const parser = new LogParser();
    const bytewise = Array.from(log, (byte) => Buffer.from([byte]));
    assert.deepEqual(parse(parser, bytewise), GOLDEN);
    assert.ok(parser.complete);
  });

  test('is stored compressed where that saves something, and plain where it does not', async () => {
    const flat = (await writeLog(path, HEADER, [{ disk: 0, offset: 0, data: Buffer.alloc(1e6, 'ab') }], 3)).length;
    const noise = (await writeLog(path, HEADER, [{ disk: 0, offset: 0, data: bytes(1e6, 1, false) }], 3)).length;
    const plain = (await writeLog(path, HEADER, [{ disk: 0, offset: 0, data: bytes(1e6, 1, false) }], 0)).length;
    assert.ok(flat < 10_000 && noise === plain);
  });

  test('grows visibly while it is written: what is `written` can be read', async () => {
    const writer = await LogWriter.create(path, HEADER, { compression: 0 });
    const parser = new LogParser();
    for (let i = 0; i < 3; i++) {
      await writer.data(0, i * 4096, bytes(4096, i, false));
      parser.push((await readFile(path)).subarray(parser.accepted));
      assert.equal(parser.accepted, writer.written);
    }
    await writer.finish({ durable: true });
  });
});

for (const compression of [0, 3]) {
  describe(`a delta log ${compression === 0 ? 'without compression' : 'with zstd'}`, () => {
    test('of which any byte is changed is refused, or reads the same', async () => {
      const log = await writeLog(path, HEADER, SMALL, compression);
      const damaged = join(directory, 'damaged');
      for (let at = 0; at < log.length; at++) {
        const copy = Buffer.from(log);
        copy[at] = copy[at]! ^ (1 << (at % 8));
        const parser = new LogParser();
        let refused: unknown;
        try {
          parse(parser, [copy]);
        } catch (error) {
          refused = error;
        }
        // a length that became larger is only waited for: the log is never complete
        assert.ok(refused instanceof Failure || !parser.complete, `parser, byte ${at}`);
        await writeFile(damaged, copy);
        try {
          // what the reader doesn't look at can't mislead it
          assert.deepEqual(await read(damaged), SMALL, `reader, byte ${at}`);
        } catch (error) {
          assert.ok(error instanceof Failure, `reader, byte ${at}: ${String(error)}`);
        }
      }
    });

    test('cut off anywhere is resumed after its last whole frame, whatever follows', async () => {
      const log = await writeLog(path, HEADER, SMALL, compression);
      const ends = boundaries(log);
      const torn = join(directory, 'torn');
      for (let length = 0; length <= log.length; length++) {
        const tails = length % 16 === 0 ? [Buffer.alloc(0), Buffer.alloc(100), bytes(100, length, false)] : [];
        for (const tail of tails.length > 0 ? tails : [Buffer.alloc(0)]) {
          const content = Buffer.concat([log.subarray(0, length), tail]);
          await writeFile(torn, content);
          const parser = await resumeParser(torn);
          // zeros may happen to go on as the log does, by a few bytes
          const good = ends.findLast((end) => content.subarray(0, end).equals(log.subarray(0, end)))!;
          assert.equal(parser.accepted, good, `${length} bytes and ${tail.length} of garbage`);
          parser.push(log.subarray(good));
          assert.ok(parser.complete);
        }
        if (length < log.length) await assert.rejects(async () => await read(torn), { name: 'Failure' });
      }
    });
  });
}
