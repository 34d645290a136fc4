import { mkdir, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Makes names in a directory durable: what was created, renamed or unlinked in it before the call. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes a directory and those above it that are missing, durably: what is synced in it must not go with its own name. */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  const first = (await mkdir(path, { recursive: true, mode })) ?? path;
  const top = dirname(first);
  for (let parent = dirname(path); ; parent = dirname(parent)) {
    await syncDirectory(parent); // also where it was there: whoever made it may not have come to this
    if (parent === top) return;
  }
}

/** Replaces a file's content so that after any crash either the old or the new content is there, whole. */
export async function writeAtomic(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.tmp`;
  const handle = await open(temporary, 'w', mode);
  try {
    await handle.writeFile(content);
    await handle.datasync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

/** Removes a file, durably; a file that isn't there is no error. */
export async function removeDurably(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return;
  }
  await syncDirectory(dirname(path));
}
