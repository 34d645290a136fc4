/** What real disks hold: an ext4 image of this machine's programs, libraries and documents, made once and kept. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { run } from '../../src/lib/process.ts';
import { Failure } from '../../src/model/failure.ts';

export const GIB = 2 ** 30;
export const MIB = 2 ** 20;
export const KIB = 2 ** 10;

/** Where files are taken from, as far as the machine has them. */
const SOURCES = ['/usr/lib', '/usr/share', '/usr/bin', '/usr/sbin', '/usr/include'];
/** Smaller ones take long to copy and make little of a disk; larger ones are packages, and one would be half a change. */
const SMALLEST_FILE = 16 * KIB;
const LARGEST_FILE = 32 * MIB;

interface Extent {
  readonly start: number;
  readonly length: number;
  /** Sum of the lengths before. */
  readonly packed: number;
}

/** A raw image with a file system, and its data without the holes as one long string of bytes. */
export class Corpus {
  readonly path: string;
  /** Virtual size of the image, bytes. */
  readonly size: number;
  readonly #extents: readonly Extent[];
  readonly #file: number;

  private constructor(path: string, size: number, extents: readonly Extent[]) {
    this.path = path;
    this.size = size;
    this.#extents = extents;
    this.#file = openSync(path, 'r');
  }

  /** @param dataBytes how much of files goes in; less where the machine has less. */
  static async open(directory: string, size: number, dataBytes: number): Promise<Corpus> {
    const path = join(directory, `ext4-${size / MIB}-${Math.round(dataBytes / MIB)}.raw`);
    if (!existsSync(path)) await makeImage(path, size, dataBytes);
    const { stdout } = await checked('qemu-img', ['map', '-f', 'raw', '--output=json', path]);
    const map = JSON.parse(stdout) as { start: number; length: number; data: boolean; zero: boolean }[];
    let packed = 0;
    const extents: Extent[] = [];
    for (const { start, length, data, zero } of map) {
      if (!data || zero) continue;
      extents.push({ start, length, packed });
      packed += length;
    }
    return new Corpus(path, size, extents);
  }

  /** Bytes of data in the image. */
  get dataBytes(): number {
    const last = this.#extents.at(-1)!;
    return last.packed + last.length;
  }

  /** Fills `target` with data from `position` on; after the end it begins anew. */
  fill(target: Uint8Array, position: number): void {
    let at = position % this.dataBytes;
    for (let done = 0; done < target.length;) {
      const extent = this.#at(at);
      const inside = at - extent.packed;
      const part = Math.min(extent.length - inside, target.length - done);
      readSync(this.#file, target, done, part, extent.start + inside);
      done += part;
      at = (at + part) % this.dataBytes;
    }
  }

  close(): void {
    closeSync(this.#file);
  }

  #at(packed: number): Extent {
    let low = 0;
    let high = this.#extents.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#extents[middle]!.packed <= packed) low = middle;
      else high = middle - 1;
    }
    return this.#extents[low]!;
  }
}

/** Runs a program that must succeed. */
export async function checked(program: string, args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await run(program, args);
  if (code === 0) return { stdout, stderr };
  throw new Failure('io', `${program} ${args.join(' ')} ended with ${code}: ${stderr.trim()}`);
}

async function makeImage(path: string, size: number, dataBytes: number): Promise<void> {
  const staging = `${path}.files`;
  const unfinished = `${path}.tmp`;
  await rm(staging, { recursive: true, force: true });
  await rm(unfinished, { force: true });
  let taken = 0;
  for (const file of await candidates()) {
    if (taken >= dataBytes) break;
    const { size: bytes } = await stat(file);
    if (bytes < SMALLEST_FILE || bytes > LARGEST_FILE) continue;
    const to = join(staging, file);
    await mkdir(dirname(to), { recursive: true });
    await copyFile(file, to);
    taken += bytes;
  }
  await checked('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', staging, unfinished, `${size / MIB}M`]);
  await rm(staging, { recursive: true });
  await rename(unfinished, path);
}

/** Files in an order that mixes their kinds and is the same wherever the same files are. */
async function candidates(): Promise<string[]> {
  const files: { path: string; order: string }[] = [];
  for (const source of SOURCES) {
    if (!existsSync(source)) continue;
    for (const entry of await readdir(source, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      files.push({ path, order: createHash('sha1').update(path).digest('hex') });
    }
  }
  return files.toSorted((a, b) => (a.order < b.order ? -1 : 1)).map(({ path }) => path);
}
