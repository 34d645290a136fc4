/**
 * What the replica's digest files are about: an image as we left it. Its stamp tells: whoever writes to an image, restores it in place
 * or puts another file there changes one of its numbers, and times of change nobody can set. Then nothing is believed. Nor is it
 * after a crash in the middle of a log, when it can't be told whose hand it was: that costs reading the disk when it is compared.
 *
 * What keeps a file true through a crash is not here: digests of what a log changes are written, durably, before the log counts as
 * applied; until then the log is there and is written again, digests and all.
 */
import { stat } from 'node:fs/promises';
import { z } from 'zod';
import { DigestFile, type Subject } from '../digests/digest-file.ts';
import { crashPoint } from '../lib/crash-point.ts';

const stampSchema = z.strictObject({
  inode: z.string(),
  /** Bytes of the file. */
  length: z.string(),
  /** Times of the last write and of the last change of anything about the file, ns. */
  written: z.string(),
  changed: z.string(),
});
type Stamp = z.infer<typeof stampSchema>;
/** `closed`: nobody of ours has the image open. */
const imageSchema = stampSchema.extend({ closed: z.boolean() });
type Image = z.infer<typeof imageSchema>;
export type ImageDigests = DigestFile<Image>;

/**
 * Opens what is known of an image of `size` bytes. Before anybody opens the image.
 * @param onForeign called when it was surely written, or another one put in its place, since it was closed in order.
 */
export async function openImageDigests(
  path: string,
  image: { readonly path: string; readonly size: number },
  onForeign: () => void = () => undefined,
): Promise<ImageDigests> {
  const now = await stampOf(image.path);
  const subject: Subject<Image> = {
    schema: imageSchema,
    believes: (found) => {
      // A change of owner, or a copy that kept its times, is somebody's hand, too, but no writing.
      if (found.closed && (found.length !== now.length || found.written !== now.written)) onForeign();
      return isSame(found, now);
    },
    opened: () => ({ ...now, closed: false }),
  };
  const onStored = (): void => crashPoint('replica:digesting');
  return await DigestFile.open(path, { size: image.size, onStored }, subject);
}

/** What was written to the image is flushed, and nothing is on its way: from now on the file is about the image as it is. */
export async function sealImageDigests(file: ImageDigests, image: { readonly path: string }): Promise<void> {
  await file.describe({ ...(await stampOf(image.path)), closed: false });
}

/** Ends it in order: nobody has the image open any more. Whatever goes wrong, nothing is left that would be believed. */
export async function closeImageDigests(file: ImageDigests, image: { readonly path: string }): Promise<void> {
  try {
    await file.describe({ ...(await stampOf(image.path)), closed: true });
    await file.sync();
  } catch (error) {
    await file.discard();
    throw error;
  }
  await file.close();
}

async function stampOf(path: string): Promise<Stamp> {
  const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
  return { inode: String(ino), length: String(size), written: String(mtimeNs), changed: String(ctimeNs) };
}

function isSame(a: Stamp, b: Stamp): boolean {
  return a.inode === b.inode && a.length === b.length && a.written === b.written && a.changed === b.changed;
}
