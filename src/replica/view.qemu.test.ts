import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { WRITER } from '../deltalog/header.ts';
import { LogWriter } from '../deltalog/writer.ts';
import { silentLog } from '../lib/log.ts';
import { createImage } from '../qemu/image.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import type { SourceBytes } from '../qemu/nbd/server.ts';
import { DiskEngine } from './engine.ts';
import { ViewDisks, type PatientDisks } from './view-disks.ts';
import { PointView } from './view.ts';

const KiB = 1024;
const SIZE = 1024 * KiB;
const DISKS = [{ target: 'vda', size: SIZE }];

interface Step {
  readonly offset: number;
  /** Null: zeros. */
  readonly bytes: Buffer | null;
  readonly length: number;
}

/** An undo log with those before-images. */
async function undoLog(path: string, sequence: number, steps: readonly Step[], compression: number): Promise<string> {
  const position = (at: number) => ({ epoch: 1, sequence: at, state: '0'.repeat(32) });
  const header = {
    writer: WRITER,
    relationship: '11111111-2222-4333-8444-555555555555',
    logId: randomBytes(16).toString('hex'),
    direction: 'undo' as const,
    disks: DISKS,
    follows: position(sequence + 1),
    sequence,
    epoch: 1,
    point: null,
    created: 0,
  };
  const writer = await LogWriter.create(path, header, { compression });
  for (const { offset, bytes, length } of steps) {
    if (bytes === null) await writer.zero(0, offset, length);
    else await writer.data(0, offset, bytes);
  }
  await writer.finish({ makes: position(sequence), durable: false });
  return path;
}

async function bytesOf(read: Promise<SourceBytes>): Promise<Buffer> {
  const bytes = await read;
  const copy = Buffer.concat(bytes.parts);
  bytes.release?.();
  return copy;
}

void describe('a view', () => {
  let directory: string;
  let engine: DiskEngine;
  let flat: ViewDisks;
  let disk: NbdClient;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'us-v-'));
    const path = join(directory, 'disk.qcow2');
    await createImage(path, SIZE, { format: 'qcow2' });
    const log = silentLog();
    engine = new DiskEngine({ runDirectory: directory, name: 'disks', disks: [{ target: 'vda', path }], log });
    flat = new ViewDisks(() => engine.addresses());
    disk = (await engine.connections()).apply[0]!;
  });
  after(async () => {
    await flat.close();
    await engine.stop();
    await rm(directory, { recursive: true });
  });

  void test('does not show a log that is applied between its look at the index and its read of the disk', async () => {
    const held = Buffer.alloc(SIZE, 'A');
    await disk.write(0, held);
    let between = async (): Promise<void> => undefined;
    const slow: PatientDisks = {
      patiently: async (work) => {
        await between();
        return await flat.patiently(work);
      },
    };
    const view = await PointView.open(DISKS, [], slow);
    try {
      // One log, applied wholly while the view is about to read: undo log, published, then written.
      between = async () => {
        between = async () => undefined;
        const [offset, length] = [70_000, 100_000];
        const bytes = held.subarray(offset, offset + length);
        await view.publish([await undoLog(join(directory, 'undo'), 1, [{ offset, bytes, length }], 1)]);
        await disk.write(offset, Buffer.alloc(length, 'B'));
      };
      const got = await bytesOf(view.read(0, 1000, SIZE - 1000));
      assert.ok(got.equals(held.subarray(1000)), `first wrong byte: ${got.findIndex((byte) => byte !== 0x41)}`);
      assert.equal((await disk.read(70_000, 1))[0], 0x42, 'the log was applied');
    } finally {
      view.close();
    }
  });

  void test('reads what it should wherever it is read: packed, plain, zeros, cut by older logs, on the disk', async () => {
    const random = (below: number): number => randomBytes(4).readUInt32LE() % below;
    const point = randomBytes(SIZE);
    const paths: string[] = [];
    // Backwards from the point: each log takes away what a newer state had, so the oldest that covers a byte is right.
    const oracle = Buffer.from(point);
    const said = new Uint8Array(SIZE);
    for (let sequence = 1; sequence <= 12; sequence++) {
      const steps: Step[] = [];
      for (let offset = random(SIZE / 2); offset < SIZE; offset += random(SIZE / 4)) {
        const length = Math.min(1 + random(100 * KiB), SIZE - offset);
        const kind = random(3);
        const bytes = kind === 0 ? null : kind === 1 ? randomBytes(length) : Buffer.alloc(length, `${offset} `);
        steps.push({ offset, bytes, length });
        for (let at = offset; at < offset + length; at++) {
          if (said[at] === 0) oracle[at] = bytes === null ? 0 : bytes[at - offset]!;
          said[at] = 1;
        }
        offset += length;
      }
      paths.push(await undoLog(join(directory, `undo-${sequence}`), sequence, steps, 1));
    }
    await disk.write(0, point);
    const view = await PointView.open(DISKS, paths, flat);
    try {
      const check = async (offset: number, length: number): Promise<void> => {
        const got = await bytesOf(view.read(0, offset, length));
        assert.ok(got.equals(oracle.subarray(offset, offset + length)), `${length} bytes at ${offset}`);
      };
      await check(0, SIZE);
      const reads = Array.from({ length: 400 }, async (_, i) => {
        const offset = random(SIZE - 1);
        await check(offset, 1 + random(Math.min(SIZE - offset, i % 2 === 0 ? 5000 : 300 * KiB)));
      });
      await Promise.all(reads);
      const extents = await view.extents(0, 0, SIZE);
      assert.equal(extents[0]!.offset, 0);
      for (const [i, { offset, length, zero }] of extents.entries()) {
        assert.equal(offset + length, extents[i + 1]?.offset ?? SIZE);
        if (zero) assert.ok(oracle.subarray(offset, offset + length).every((byte) => byte === 0));
      }
    } finally {
      view.close();
    }
  });
});
