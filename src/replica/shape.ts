/**
 * A log says in its header which disks the state has that it makes, and of what sizes: so a disk that was resized or added at the primary
 * follows in the very log that tells what is on it, and older points keep the shape that they had, since undo logs say it, too.
 *
 * Around the writing of such a log the images are changed in two steps, each of which may be done again: before its undo log is made they
 * become wide enough for both states, and once it is in the disks they are cut to the new one. What is cut off is in the undo log by then.
 */
import { rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FrameKind } from '../deltalog/frame.ts';
import { syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import type { Extent } from '../model/extent.ts';
import { Failure } from '../model/failure.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { canBecome, sameShape, shapeOf } from '../model/shape.ts';
import { createImage, imageInfo, resizeImage } from '../qemu/image.ts';
import type { LocalDisk } from '../store/store.ts';
import type { Digests } from './digests.ts';
import type { DiskEngine } from './engine.ts';
import type { ReplicaLayout } from './layout.ts';
import type { Item } from './log-share.ts';
import type { RecordFile, ReplicaRecord } from './record.ts';

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

/** Bytes of the longest that a qcow2 may have. */
const LONGEST_CLUSTER = 2 * 1024 * 1024;

/** Of an image that is to be cut: what comes behind its new end. */
interface End extends Extent {
  readonly disk: number;
}

/** The images of a replica, whose sizes change with the logs that it applies. While nothing else reads or writes its disks but views. */
export class DiskShape {
  readonly #parts: ShapeParts;
  /** As they are opened. */
  #disks: readonly LocalDisk[];

  constructor(parts: ShapeParts) {
    this.#parts = parts;
    this.#disks = parts.record.value.disks;
  }

  /** Makes the images wide enough for both the present state and one of that shape. Gives the disks of the latter. */
  async widen(shape: readonly ReplicatedDisk[]): Promise<ReplicaRecord['disks']> {
    const { record, layout } = this.#parts;
    const now = record.value.disks;
    if (!canBecome(now, shape)) throw new Failure('bad-log', 'the log is about other disks than the replica has');
    const next = shapeOf(shape).map((disk, i) => {
      const { path = layout.disk(disk.target), emptied } = now[i] ?? {};
      return { ...disk, path, ...(disk.gone === true && emptied === true ? { emptied } : {}) };
    });
    if (sameShape(now, shape)) return next;
    const wide = next.map((disk, i) => ({ ...disk, size: Math.max(disk.size, now[i]?.size ?? 0) }));
    await this.#become(wide, now.length);
    crashPoint('replica:widened');
    return next;
  }

  /**
   * Gives the images the present state's shape again: of a log that is taken back they may have been made longer, with some of it written
   * there, or cut already. Before its undo log is written to them.
   */
  async restore(): Promise<void> {
    await this.#become(this.#parts.record.value.disks);
  }

  /** Cuts the images to the new state, which is in them. */
  async cut(disks: readonly LocalDisk[]): Promise<void> {
    const now = this.#parts.record.value.disks;
    if (!disks.some(({ size }, i) => size < (now[i]?.size ?? 0))) return;
    await this.#become(disks);
    crashPoint('replica:cut');
  }

  /**
   * Makes the images of disks empty that are gone, and that no point has any more. Those that were there before the replica (a former
   * primary's) stay as they are.
   */
  async empty(gone: ReadonlySet<number>): Promise<void> {
    const { engine, digests, record, layout } = this.#parts;
    const { disks } = record.value;
    const ours = new Set([...gone].filter((i) => disks[i]!.path === layout.disk(disks[i]!.target)));
    const change = async (): Promise<void> => {
      for (const i of ours) {
        const { path, size } = disks[i]!;
        const other = `${path}.empty`;
        await rm(other, { force: true }); // of a try that was cut
        await createImage(other, size, { format: 'qcow2' });
        crashPoint('replica:emptying');
        // By one step: whoever opens the replica after a crash finds an image.
        await rename(other, path);
        await syncDirectory(dirname(path));
        crashPoint('replica:emptied');
      }
    };
    if (ours.size > 0) await engine.changeDisks(disks, () => digests.change(disks, ours, change));
    await record.update(({ disks: now }) => ({
      disks: now.map((disk, i) => (gone.has(i) ? { ...disk, emptied: true as const } : disk)),
    }));
  }

  /** From the disk `added` on they are made anew. What sizes the images have, they say: a try of this may have been cut by a crash. */
  async #become(disks: readonly LocalDisk[], added = disks.length): Promise<void> {
    const { engine, digests } = this.#parts;
    const others = new Set<number>();
    const ends: End[] = [];
    for (const [disk, { path, size }] of disks.entries()) {
      const present = disk < added ? (await imageInfo(path, { format: 'qcow2', inUse: true })).size : 0;
      if (present !== size) others.add(disk);
      if (present > size) ends.push({ disk, offset: size, length: Math.min(present - size, LONGEST_CLUSTER) });
    }
    if (others.size === 0 && sameShape(disks, this.#disks)) return;
    if (ends.length > 0) await this.#clear(ends);
    const change = async (): Promise<void> => {
      crashPoint('replica:reshaping');
      for (const i of others) {
        const { path, size } = disks[i]!;
        if (i < added) {
          await resizeImage(path, size);
        } else {
          await rm(path, { force: true }); // of a try that was cut
          await createImage(path, size, { format: 'qcow2' });
        }
        crashPoint('replica:reshaped');
      }
    };
    await engine.changeDisks(disks, () => digests.change(disks, others, change));
    this.#disks = disks;
  }
  /** A cluster that is cut keeps what it held behind the new end, and would show it should the image become longer again. Durable. */
  async #clear(ends: readonly End[]): Promise<void> {
    const { apply } = await this.#parts.engine.connections();
    for (const { disk, offset, length } of ends) {
      await apply[disk]!.writeZeroes(offset, length, { mayUnmap: true });
      await apply[disk]!.flush();
    }
  }
}
