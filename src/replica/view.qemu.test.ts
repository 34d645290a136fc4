import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLog } from '../lib/log.ts';
import type { FrameEntry } from '../deltalog/reader.ts';
import { createImage } from '../qemu/image.ts';
import { DiskEngine } from './engine.ts';
import { recordUndo } from './undo.ts';
import { PointView, type PatientDisks } from './view.ts';

const SIZE = 256 * 1024;
const position = (sequence: number) => ({ epoch: 1, sequence, state: '0'.repeat(32) });

void test('a log that is applied between a view’s look at its index and its read of the disk does not show', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'us-v-'));
  const path = join(directory, 'disk.qcow2');
  await createImage(path, SIZE, { format: 'qcow2' });
  const engine = new DiskEngine({
    runDirectory: directory,
    name: 'disks',
    disks: [{ target: 'vda', path }],
    log: silentLog(),
  });
  try {
    const [disk] = (await engine.connections()).apply;
    const before = Buffer.alloc(SIZE, 'A');
    await disk!.write(0, before);

    let between = async (): Promise<void> => undefined;
    const slow: PatientDisks = {
      patiently: async (work) => {
        await between();
        return await engine.patiently(work);
      },
    };
    const view = await PointView.open(1, [{ target: 'vda', size: SIZE }], [], slow);
    try {
      // One log, applied wholly while the view is about to read: undo log, published, then written.
      between = async () => {
        between = async () => undefined;
        const frame: FrameEntry = { kind: 1, disk: 0, offset: 70_000, length: 100_000, at: 0, stored: 0 };
        const request = {
          path: join(directory, 'undo'),
          relationship: '11111111-2222-4333-8444-555555555555',
          disks: view.disks,
          follows: position(2),
          makes: position(1),
          point: null,
        };
        await view.publish(await recordUndo(request, [frame], [disk!]));
        await disk!.write(frame.offset, Buffer.alloc(frame.length, 'B'));
      };
      const target = Buffer.alloc(SIZE - 1000);
      await view.readInto(0, target, 1000);
      assert.ok(target.equals(before.subarray(1000)), `first wrong byte: ${target.findIndex((byte) => byte !== 0x41)}`);
      assert.equal((await disk!.read(70_000, 1))[0], 0x42, 'the log was applied');
    } finally {
      await view.close();
    }
  } finally {
    await engine.stop();
    await rm(directory, { recursive: true });
  }
});
