import { statfs } from 'node:fs/promises';

/** A file system's room, bytes. */
export interface Room {
  /** What a user without privileges may still take. */
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Room of the file system that `path` lies on. Errors of the file system as they come. */
export async function roomAt(path: string): Promise<Room> {
  const { bsize, bavail, blocks } = await statfs(path);
  return { freeBytes: bsize * bavail, totalBytes: bsize * blocks };
}
