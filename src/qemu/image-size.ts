/** An image's virtual size, read from its header: hosts ask for it all the time, and to begin a program for that costs a big process much. */
import { open, type FileHandle } from 'node:fs/promises';
import { asFailure, Failure } from '../model/failure.ts';
import type { ImageFile } from './image.ts';

/** Magic number and version of a qcow2, to its virtual size at 24; see QEMU's docs/interop/qcow2.txt. */
const HEAD = 32;
const MAGIC = 0x514649fb;
const SIZE_AT = 24;

/** Bytes; also of an image that is in use. Failure `io` naming the image where there is none, or it is no such image. */
export async function imageSize({ path, format }: ImageFile): Promise<number> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw asFailure(error, 'io');
  }
  try {
    if (format === 'raw') return (await file.stat()).size;
    const head = Buffer.alloc(HEAD);
    const { bytesRead } = await file.read(head, 0, HEAD, 0);
    if (bytesRead < HEAD || head.readUInt32BE(0) !== MAGIC) throw new Failure('io', `${path} is no qcow2 image`);
    return Number(head.readBigUInt64BE(SIZE_AT));
  } finally {
    await file.close();
  }
}
