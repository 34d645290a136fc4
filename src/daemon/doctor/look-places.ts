import { access, constants, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Log } from '../../lib/log.ts';
import { firstBarred, type UserIds } from '../../lib/rights.ts';
import type { Config } from '../config/read.ts';
import type { PlaceFacts, Purpose } from './places.ts';

/** Kinds of file systems, as `statfs` numbers them: tmpfs, ramfs. */
const IN_MEMORY = new Set([0x01021994, 0x858458f6]);
/** NFS, CIFS, SMB2, Ceph. */
const ON_NETWORK = new Set([0x6969, 0xff534d42, 0xfe534d42, 0x00c36400]);

const DIRECTORY: Readonly<Record<Purpose, (config: Config) => string>> = {
  state: (config) => config.stateDirectory,
  outbox: (config) => config.outboxDirectory,
  points: (config) => config.pointDirectory,
  replicas: (config) => config.replicaDirectory,
  run: (config) => config.runDirectory,
};

/** Where QEMU's user goes in the course of a cycle or a failover. A point's own directory is opened to him each time anew. */
const WAY_OF_QEMU: Partial<Record<Purpose, (path: string) => string>> = {
  points: dirname,
  replicas: (path) => path,
  run: (path) => path,
};

/** @param user QEMU's own; undefined: the daemon's, who needs no look. */
export async function lookAtPlace(
  purpose: Purpose,
  { config, user, log }: { config: Config; user: UserIds | undefined; log: Log },
): Promise<PlaceFacts> {
  const path = DIRECTORY[purpose](config);
  const way = WAY_OF_QEMU[purpose]?.(path);
  const [fileSystem, writable, barred] = await Promise.all([
    fileSystemAt(path),
    canWrite(path),
    user === undefined || way === undefined ? undefined : whoBars(user, way, log),
  ]);
  return {
    purpose,
    path,
    writable,
    ...(fileSystem === undefined ? {} : { fileSystem }),
    ...(barred === undefined ? {} : { barred }),
  };
}

async function fileSystemAt(path: string): Promise<PlaceFacts['fileSystem']> {
  try {
    const { bsize, bavail, blocks, type } = await statfs(path);
    const kind = IN_MEMORY.has(type) ? 'memory' : ON_NETWORK.has(type) ? 'network' : 'disk';
    return { freeBytes: bsize * bavail, totalBytes: bsize * blocks, kind };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return undefined;
  }
}

async function canWrite(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK | constants.X_OK);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return false;
  }
}

async function whoBars(user: UserIds, way: string, log: Log): Promise<NonNullable<PlaceFacts['barred']> | null> {
  try {
    const at = await firstBarred(user, way);
    return at === undefined ? null : { at };
  } catch (error) {
    log.warn({ err: error }, "the rights of QEMU's user can't be asked");
    return 'unknown';
  }
}
