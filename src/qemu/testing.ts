/** For tests only: a run directory with a storage daemon and disks in it, and bytes that can be made again. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createImage, type ImageFormat } from './image.ts';
import { NbdClient } from './nbd/client.ts';
import { BASE_ALLOCATION } from './nbd/wire.ts';
import { StorageDaemon } from './storage-daemon.ts';

export const KiB = 1024;
export const MiB = 1024 * KiB;

/** A directory that goes when the test ends. */
export async function scratchDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** A running storage daemon that ends, with its directory, when the test does. */
export async function scratchDaemon(t: TestContext): Promise<{ daemon: StorageDaemon; directory: string }> {
  const directory = await scratchDirectory(t);
  const daemon = await StorageDaemon.start({ directory, name: 'test' });
  t.after(() => daemon.stop());
  return { daemon, directory };
}

/** Creates, opens and exports a disk named `name`; gives its path. */
export async function scratchDisk(
  place: { daemon: StorageDaemon; directory: string },
  name: string,
  size: number,
  format: ImageFormat = 'qcow2',
): Promise<string> {
  const path = join(place.directory, `${name}.${format}`);
  await createImage(path, size, { format });
  await place.daemon.openImage({ node: name, path, format, readOnly: false, backing: null });
  await place.daemon.exportNode({ node: name, exportName: name, writable: true });
  return path;
}

/** A client of an export of the daemon, closed when the test ends. */
export async function scratchClient(
  t: TestContext,
  daemon: StorageDaemon,
  exportName: string,
  metaContexts: readonly string[] = [BASE_ALLOCATION],
): Promise<NbdClient> {
  const client = await NbdClient.connect({ socketPath: daemon.nbdSocket, exportName, metaContexts });
  t.after(() => client.destroy());
  return client;
}

/** Random integers in [0, below), the same for the same seed (mulberry32). */
export function seededRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Bytes without zeros in them, different for each `mark` and each place. */
export function pattern(length: number, mark: number): Buffer<ArrayBuffer> {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((mark * 31 + i * 7 + (i >>> 8)) % 255);
  return bytes;
}
