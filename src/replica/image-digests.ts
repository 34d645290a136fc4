/**
 * What the replica's digest files are about: an image. Numbers of it (its inode; its time of change, when it was closed in order)
 * tell whether somebody else's hand was on it: then nothing is believed.
 *
 * What keeps a file true through a crash is not here: digests of what a log changes are written, durably, before the log counts as
 * applied; until then the log is there and is written again, digests and all.
 */
import { stat } from 'node:fs/promises';
import { z } from 'zod';
import { DigestFile, type Subject } from '../digests/digest-file.ts';
import { crashPoint } from '../lib/crash-point.ts';

const imageSchema = z.strictObject({
  inode: z.string(),
  /** ns; null while the image is open. */
  changed: z.string().nullable(),
});
type Image = z.infer<typeof imageSchema>;
export type ImageDigests = DigestFile<Image>;

/** Opens what is known of an image of `size` bytes. Before anybody opens the image. */
export async function openImageDigests(
  path: string,
  image: { readonly path: string; readonly size: number },
): Promise<ImageDigests> {
  const { inode, changed } = await numbersOf(image.path);
  const subject: Subject<Image> = {
    schema: imageSchema,
    believes: (found) => found.inode === inode && (found.changed === null || found.changed === changed),
    opened: () => ({ inode, changed: null }),
  };
  const onStored = (): void => crashPoint('replica:digesting');
  return await DigestFile.open(path, { size: image.size, onStored }, subject);
}

/** Ends it in order: nobody has the image open any more, so that its time of change says whether it stays as it is. */
export async function closeImageDigests(file: ImageDigests, image: { readonly path: string }): Promise<void> {
  try {
    await file.describe(await numbersOf(image.path));
  } finally {
    await file.close();
  }
}

async function numbersOf(path: string): Promise<{ inode: string; changed: string }> {
  const { ino, mtimeNs } = await stat(path, { bigint: true });
  return { inode: String(ino), changed: String(mtimeNs) };
}
