import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { FrameEntry } from '../deltalog/reader.ts';
import { digest } from '../lib/digest.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import { blocksIn, Pieces } from '../deltalog/pieces.ts';
import { LogDigests } from './log-digests.ts';
import { isZero, itemsOf, type Part } from './log-share.ts';

const BLOCKS = 7;
const SIZE = BLOCKS * DIGEST_BLOCK - 20_000;

const places = fc.oneof(
  fc.nat(SIZE - 1),
  fc.nat(BLOCKS - 1).map((block) => block * DIGEST_BLOCK),
);
const lengths = fc.oneof(
  fc.integer({ min: 1, max: 3 * DIGEST_BLOCK }),
  fc.integer({ min: 1, max: 3 }).map((count) => count * DIGEST_BLOCK),
);
const unknown = () => undefined;
const changes = fc.array(
  fc.record({ offset: places, length: lengths, fill: fc.option(fc.integer({ min: 1, max: 255 })) }),
  { maxLength: 8 },
);

void describe('digests of what a log changes', () => {
  void test('are those of the disk, for each block that is touched and for no other', () => {
    fc.assert(
      fc.property(changes, (log) => {
        const disk = Buffer.alloc(SIZE, 1);
        const frames = log.map(({ offset, length, fill }, i): FrameEntry => {
          const clipped = Math.min(length, SIZE - offset);
          return { kind: fill === null ? 2 : 1, disk: 0, offset, length: clipped, at: i, stored: 0 };
        });
        const touched = new Set<number>();
        for (const [i, { offset, length }] of frames.entries()) {
          disk.fill(log[i]!.fill ?? 0, offset, offset + length);
          for (let at = offset; at < offset + length; at += DIGEST_BLOCK) touched.add(Math.floor(at / DIGEST_BLOCK));
          touched.add(Math.floor((offset + length - 1) / DIGEST_BLOCK));
        }
        const fromFrame = ({ frame }: Part) => {
          const pieces = new Pieces(frame.length, frame.offset);
          pieces.update(Buffer.alloc(frame.length, log[frame.at]!.fill!));
          const all = pieces.finish();
          return (from: number, count: number) => blocksIn(all, frame.offset, from, count);
        };
        const lanes = [new LogDigests(SIZE), new LogDigests(SIZE)];
        for (const [i, part] of itemsOf(frames)
          .flatMap(({ parts }) => parts)
          .entries()) {
          const { offset, length } = part;
          if (isZero(part)) lanes[i % 2]!.zero(offset, length);
          else
            lanes[i % 2]!.data(offset, disk.subarray(offset, offset + length), i % 3 === 0 ? unknown : fromFrame(part));
        }
        const read = (block: number) => digest(disk.subarray(block * DIGEST_BLOCK, (block + 1) * DIGEST_BLOCK));
        let blocksRead = 0;
        const given = new Set<number>();
        for (const digests of lanes) {
          for (const { from, to } of digests.unseen()) {
            for (let block = from; block < to; block++, blocksRead++) {
              digests.seen({ from: block, digests: read(block) });
            }
          }
          for (const run of digests.runs) {
            for (let i = 0; i * 16 < run.digests.length; i++) {
              given.add(run.from + i);
              const got = run.digests.subarray(i * 16, (i + 1) * 16);
              assert.ok(got.equals(read(run.from + i)), `block ${run.from + i}`);
            }
          }
        }
        assert.deepEqual(given, touched);
        const whole = log.length === 1 && log[0]!.offset % DIGEST_BLOCK === 0 && log[0]!.length % DIGEST_BLOCK === 0;
        if (whole && log[0]!.fill !== null) assert.equal(blocksRead, 0, 'whole blocks are not read');
      }),
      { numRuns: 1500 },
    );
  });
});
