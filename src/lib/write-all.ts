import type { FileHandle } from 'node:fs/promises';

/**
 * Writes all of the buffers, one after the other, from `position` on: a write may be cut short.
 * @param onWritten told of each part that is in the file, bytes: also when a later one fails.
 */
export async function writeAll(
  file: FileHandle,
  buffers: readonly Buffer[],
  position: number,
  onWritten: (bytes: number) => void = () => undefined,
): Promise<void> {
  let left = buffers;
  let at = position;
  while (left.length > 0) {
    const { bytesWritten } = await file.writev(left, at);
    at += bytesWritten;
    onWritten(bytesWritten);
    left = after(left, bytesWritten);
  }
}

/** What is left of `buffers` after their first `count` bytes. */
function after(buffers: readonly Buffer[], count: number): Buffer[] {
  let left = count;
  let i = 0;
  while (i < buffers.length && left >= buffers[i]!.length) left -= buffers[i++]!.length;
  const rest = buffers.slice(i);
  if (left > 0) rest[0] = rest[0]!.subarray(left);
  return rest;
}
