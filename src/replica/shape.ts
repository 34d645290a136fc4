/**
 * A log says in its header which disks the state has that it makes, and of what sizes: so a disk that was resized or added at the primary
 * follows in the very log that tells what is on it, and older points keep the shape that they had, since undo logs say it, too.
 *
 * Around the writing of such a log the images are changed in two steps, each of which may be done again: before its undo log is made they
 * become wide enough for both states, and once it is in the disks they are cut to the new one. What is cut off is in the undo log by then.
 */
import { rm } from 'node:fs/promises';
import { FrameKind } from '../deltalog/frame.ts';
import { Failure } from '../model/failure.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { canBecome, sameShape } from '../model/shape.ts';
import { createImage, imageInfo, resizeImage } from '../qemu/image.ts';
import type { LocalDisk } from '../store/store.ts';
import type { Digests } from './digests.ts';
import type { DiskEngine } from './engine.ts';
import type { ReplicaLayout } from './layout.ts';
import type { Item } from './log-share.ts';
import type { RecordFile } from './record.ts';

/** What a shape has beyond another one: to be kept in an undo log, and to read as zeros should it ever come back. */
export function tailsOf(before: readonly ReplicatedDisk[], after: readonly ReplicatedDisk[]): Item[] {
  return before.flatMap(({ size }, disk) => {
    const offset = after[disk]!.size;
    if (size <= offset) return [];
    const length = size - offset;
    return [
      {
        disk,
        isTail: true,
        parts: [{ offset, length, frame: { kind: FrameKind.zero, disk, offset, length, at: 0, stored: 0 } }],
      },
    ];
  });
}

export interface ShapeParts {
  readonly layout: ReplicaLayout;
  readonly record: RecordFile;
  readonly engine: DiskEngine;
  readonly digests: Digests;
}

/** The images of a replica, whose sizes change with the logs that it applies. While nothing else reads or writes its disks but views. */
export class DiskShape {
  readonly #parts: ShapeParts;

  constructor(parts: ShapeParts) {
    this.#parts = parts;
  }

  /** Makes the images wide enough for both the present state and one of that shape. Gives the disks of the latter. */
  async widen(shape: readonly ReplicatedDisk[]): Promise<LocalDisk[]> {
    const { record, layout } = this.#parts;
    const now = record.value.disks;
    if (!canBecome(now, shape)) throw new Failure('bad-log', 'the log is about other disks than the replica has');
    const next = shape.map(({ target, size }, i) => ({ target, size, path: now[i]?.path ?? layout.disk(target) }));
    if (sameShape(now, shape)) return next;
    const wide = next.map((disk, i) => ({ ...disk, size: Math.max(disk.size, now[i]?.size ?? 0) }));
    await this.#change(wide, async () => {
      for (const disk of wide.slice(now.length)) {
        await rm(disk.path, { force: true }); // of a try that was cut
        await createImage(disk.path, disk.size, { format: 'qcow2' });
      }
      await atLeast(wide.slice(0, now.length));
    });
    return next;
  }

  /** Makes the images as wide as the present state is: of a log that is taken back they may have been cut already. */
  async restore(): Promise<void> {
    const { disks } = this.#parts.record.value;
    await this.#change(disks, () => atLeast(disks));
  }

  /** Cuts the images to the new state, which is in them. */
  async cut(disks: readonly LocalDisk[]): Promise<void> {
    const now = this.#parts.record.value.disks;
    const smaller = disks.filter(({ size }, i) => size < (now[i]?.size ?? 0));
    if (smaller.length === 0) return;
    await this.#change(disks, async () => {
      for (const { path, size } of smaller) await resizeImage(path, size);
    });
  }

  async #change(disks: readonly LocalDisk[], work: () => Promise<void>): Promise<void> {
    const { engine, digests } = this.#parts;
    await engine.changeDisks(disks, async () => {
      await digests.change(disks, work);
    });
  }
}

async function atLeast(disks: readonly LocalDisk[]): Promise<void> {
  for (const { path, size } of disks) {
    const { size: present } = await imageInfo(path, { format: 'qcow2' });
    if (present < size) await resizeImage(path, size);
  }
}
