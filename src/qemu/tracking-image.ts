/**
 * A tracking image: a qcow2 that holds change bitmaps, and no data. What is read and written through it is a raw disk, file or block device,
 * byte for byte (`data_file_raw`), which can be used without it again at any time.
 */
import { chmod, chown, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname } from 'node:path';
import { removeDurably, syncDirectory } from '../lib/atomic-file.ts';
import { Failure } from '../model/failure.ts';
import { exclusively, imageInfo, qemuImg, syncFile } from './image.ts';

/** By this a tracking image is known; whether it is one says its header. */
export const TRACKING_SUFFIX = '.understudy.qcow2';

/** Path of the raw file that a tracking image lies beside, if it is that of a file; undefined for another image. */
export function rawBeside(path: string): string | undefined {
  return path.endsWith(TRACKING_SUFFIX) ? path.slice(0, -TRACKING_SUFFIX.length) : undefined;
}

/** A network file system may write an image down a little before its raw file, ms. */
const TOLERANCE_MS = 2000;

/**
 * Whether somebody has written the raw file past its tracking image, which nobody has open: no bitmap says what. Whoever has it open for
 * writing writes the image last. Of a block device it isn't known: false.
 */
export async function isWrittenBeside(path: string): Promise<boolean> {
  const raw = rawBeside(path);
  const found = raw === undefined ? undefined : await stat(raw).catch(() => undefined); // a block device's: there is none
  return found?.isFile() === true && found.mtimeMs > (await stat(path)).mtimeMs + TOLERANCE_MS;
}

/** Changes an image in which a bitmap is given up: that something was written beside it is seen as before. */
export async function stillWrittenBeside(path: string, change: () => Promise<void>): Promise<void> {
  const { atime, mtime } = await stat(path);
  const isBeside = await isWrittenBeside(path);
  await change();
  if (isBeside) await utimes(path, atime, mtime);
}

/**
 * Makes the tracking image of a raw disk, for whoever may use the disk; durable when this resolves. The disk itself is
 * only looked at: qemu-img would empty the data file that an image is created with, so it is created with another one, and turned to the
 * disk then. One that is there already is replaced. Failures: `no-space`, `io`.
 */
export async function makeTrackingImage(path: string, raw: string): Promise<void> {
  const { size } = await imageInfo(raw, { format: 'raw' });
  const [unfinished, standIn] = [`${path}.new`, `${path}.stand-in`];
  for (const left of [unfinished, standIn]) await rm(left, { force: true }); // of a try that a crash cut short
  try {
    await (await exclusively(unfinished)).close();
    const withStandIn = `data_file=${escaped(standIn)},data_file_raw=on`;
    await qemuImg(['create', '-q', '-f', 'qcow2', '-o', withStandIn, unfinished, String(size)], `create image ${path}`);
    await qemuImg(['amend', '-q', '-f', 'qcow2', '-o', `data_file=${escaped(raw)}`, unfinished], `amend image ${path}`);
    const made = await imageInfo(unfinished, { format: 'qcow2' });
    if (made.size !== size || made.dataFile?.path !== raw || !made.dataFile.raw)
      throw new Failure('io', `${path} did not become an image of ${raw}`);
    const { uid, gid, mode } = await stat(raw);
    await chown(unfinished, uid, gid);
    await chmod(unfinished, mode & 0o666);
    await syncFile(unfinished);
    await rename(unfinished, path);
    await syncDirectory(dirname(path));
  } finally {
    for (const left of [unfinished, standIn]) await rm(left, { force: true });
  }
}

/** Removes a tracking image, durably, with what a crash left of making it; the raw disk stays. None there is no error. */
export async function removeTrackingImage(path: string): Promise<void> {
  for (const left of [`${path}.new`, `${path}.stand-in`]) await rm(left, { force: true });
  await removeDurably(path);
}

/** In an option of qemu-img a comma is written twice. */
function escaped(path: string): string {
  return path.replaceAll(',', ',,');
}
