/** Empty images to be copied: making one by a program each time takes far longer. */
import { randomBytes } from 'node:crypto';
import { access, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { createImage } from './image.ts';

/** Path of an empty qcow2 of that size, bytes, in a directory; made once. Failures as of `createImage`. */
export async function emptyImage(directory: string, size: number): Promise<string> {
  const path = join(directory, `empty-${size}.qcow2`);
  try {
    await access(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const unfinished = `${path}.${randomBytes(4).toString('hex')}`;
    await createImage(unfinished, size, { format: 'qcow2' });
    await rename(unfinished, path);
  }
  return path;
}
