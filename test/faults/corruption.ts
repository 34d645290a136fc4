/** Damage at rest: a bit that is flipped in a file behind the back of whoever wrote it. */
import { open, stat } from 'node:fs/promises';
import { z } from 'zod';
import { run } from '../../src/lib/process.ts';

const mapSchema = z.array(
  z.object({ start: z.number(), length: z.number(), data: z.boolean(), offset: z.number().optional() }),
);

/** A run of a disk's bytes in the image's file. */
export interface StoredRun {
  /** Of the disk. */
  readonly start: number;
  readonly length: number;
  /** In the file. */
  readonly at: number;
}

/** Where a qcow2 holds the data of its disk. */
export async function storedRuns(image: string): Promise<StoredRun[]> {
  const { stdout } = await run('qemu-img', ['map', '--output=json', '-U', '-f', 'qcow2', image]);
  return mapSchema
    .parse(JSON.parse(stdout))
    .flatMap(({ start, length, data, offset }) =>
      data && offset !== undefined ? [{ start, length, at: offset }] : [],
    );
}

/** Flips one bit. @param at byte of the file. */
export async function flipBit(path: string, at: number, bit = 0): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0]! ^= 1 << bit;
    await file.write(byte, 0, 1, at);
  } finally {
    await file.close();
  }
}

/** Flips one bit of what an image holds of its disk. @param pick number in [0, 1). @returns byte of the disk. */
export async function flipStored(image: string, pick: number, bit = 0): Promise<number> {
  const runs = await storedRuns(image);
  const total = runs.reduce((sum, { length }) => sum + length, 0);
  let left = Math.floor(pick * total);
  for (const { start, length, at } of runs) {
    if (left < length) {
      await flipBit(image, at + left, bit);
      return start + left;
    }
    left -= length;
  }
  throw new Error(`${image} holds no data`);
}

/** Flips one bit of a byte of the disk. */
export async function flipStoredAt(image: string, byte: number, bit: number): Promise<void> {
  const found = (await storedRuns(image)).find(({ start, length }) => byte >= start && byte < start + length);
  if (found === undefined) throw new Error(`${image} holds no data at ${byte}`);
  await flipBit(image, found.at + byte - found.start, bit);
}

/** Flips one bit anywhere in a file. @param pick number in [0, 1). @returns byte of the file. */
export async function flipAnywhere(path: string, pick: number, bit = 0): Promise<number> {
  const at = Math.floor(pick * (await stat(path)).size);
  await flipBit(path, at, bit);
  return at;
}
