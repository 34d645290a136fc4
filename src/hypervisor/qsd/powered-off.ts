import type { Log } from '../../lib/log.ts';
import { run } from '../../lib/process.ts';
import { asFailure, Failure } from '../../model/failure.ts';
import { addBitmap, commitImage, imageInfo, removeBitmap } from '../../qemu/image.ts';
import { imageSize } from '../../qemu/image-size.ts';
import { isWrittenBeside, stillWrittenBeside } from '../../qemu/tracking-image.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { DiskSource, OpenPointRequest, Point, PointExport } from '../hypervisor.ts';
import type { DefinedDisk } from './vm-file.ts';

/** Starts a bitmap in images that nobody has open; it records from their next opening on. */
export async function startBitmapOff(disks: readonly DefinedDisk[], name: string): Promise<void> {
  try {
    for (const { path } of disks) await addBitmap(path, name);
  } catch (error) {
    await dropBitmapOff(disks, name);
    throw error;
  }
}

/** Bitmaps in an image that nobody has open, and whether they can be relied on. */
export async function bitmapsOff({ path, format }: DefinedDisk): Promise<Map<string, boolean>> {
  const { bitmaps } = await imageInfo(path, { format });
  const isBeside = await isWrittenBeside(path);
  return new Map(bitmaps.map(({ name, flags }) => [name, !flags.includes('in-use') && !isBeside]));
}

export async function dropBitmapOff(disks: readonly DefinedDisk[], name: string): Promise<void> {
  for (const disk of disks) {
    if ((await bitmapsOff(disk)).has(name)) await stillWrittenBeside(disk.path, () => removeBitmap(disk.path, name));
  }
}

/** An open point of a powered-off VM: a storage daemon that reads its images, and by its lock keeps them from being written. */
export class OffPoint {
  readonly point: Point;
  readonly #daemon: StorageDaemon;

  private constructor(point: Point, daemon: StorageDaemon) {
    this.point = point;
    this.#daemon = daemon;
  }

  /** @param name names the daemon in `directory`. */
  static async open(
    disks: readonly DefinedDisk[],
    request: OpenPointRequest,
    where: { directory: string; name: string; log: Log },
  ): Promise<OffPoint> {
    const { since, next } = request;
    for (const { target, path } of since === null ? [] : disks) {
      if (!(await isWrittenBeside(path))) continue;
      throw new Failure(
        'tracking-lost',
        `bitmap ${since} doesn't know what was written beside ${path}, disk ${target}`,
      );
    }
    const instant = Date.now();
    if (next !== null) await startBitmapOff(disks, next);
    let daemon: StorageDaemon | undefined;
    try {
      daemon = await StorageDaemon.start(where);
      const exports: PointExport[] = [];
      for (const { target, path, format } of disks) {
        const size = await imageSize({ path, format });
        await daemon.openImage({ node: target, path, format, readOnly: true });
        const bitmaps = since === null ? [] : [since];
        await daemon.exportNode({ node: target, exportName: target, writable: false, bitmaps });
        const dirtyContext = since === null ? null : `qemu:dirty-bitmap:${since}`;
        exports.push({ target, socketPath: daemon.nbdSocket, exportName: target, size, dirtyContext });
      }
      return new OffPoint({ instant, instantEnd: Date.now(), exports, scratchFiles: [] }, daemon);
    } catch (error) {
      await daemon?.stop();
      if (next !== null) await dropBitmapOff(disks, next);
      throw asFailure(error, 'disk-engine');
    }
  }

  async close(): Promise<void> {
    await this.#daemon.stop();
  }
}

/**
 * Merges an image into the one right below, with what its bitmaps have recorded; gives that one, or undefined for a flat
 * image. Nothing is taken from the overlay, so that it can be done again after a crash.
 */
export async function commitOff({ path, format }: DefinedDisk): Promise<DiskSource | undefined> {
  const { backing, bitmaps } = await imageInfo(path, { format });
  if (backing === undefined) return undefined;
  if (backing.format !== 'qcow2' && backing.format !== 'raw') {
    throw new Failure('disk-unsupported', `image ${path} doesn't declare the format of its backing file`);
  }
  const lower: DiskSource = { path: backing.path, format: backing.format };
  if (lower.format === 'qcow2') {
    const there = new Set((await imageInfo(lower.path, lower)).bitmaps.map(({ name }) => name));
    for (const { name, flags } of bitmaps) {
      if (flags.includes('in-use')) {
        // one of that name below knows less still
        if (there.has(name)) await removeBitmap(lower.path, name);
        continue;
      }
      if (!there.has(name)) await addBitmap(lower.path, name);
      await mergeBitmapOff(lower.path, name, path);
    }
  }
  await commitImage(path);
  return lower;
}

async function mergeBitmapOff(path: string, name: string, from: string): Promise<void> {
  const args = ['bitmap', '--merge', name, '-b', from, '-F', 'qcow2', '-f', 'qcow2', path, name];
  const { code, stderr } = await run('qemu-img', args);
  if (code !== 0) throw new Failure('io', `can't merge bitmap ${name} of ${from} into ${path}: ${stderr.trim()}`);
}
