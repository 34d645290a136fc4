/**
 * Makes the directory of a new replica, and removes it. Its record comes last and goes first: without it there is no replica, and what a
 * crash left of an unfinished one is told from disks that somebody kept by a marker.
 */
import { open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { removeDurably, syncDirectory, writeAtomic } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { DEFAULT_AUTO_RESYNC, type AutoResync } from '../model/auto-resync.ts';
import { DEFAULT_DEFINITION_POLICY, type DefinitionPolicy } from '../model/definition-changes.ts';
import { Failure } from '../model/failure.ts';
import type { Position, RecoveryPoint } from '../model/relationship.ts';
import type { ThinningRule } from '../model/retention.ts';
import { createImage, imageInfo } from '../qemu/image.ts';
import { NO_DAMAGE } from './damage.ts';
import { ReplicaLayout } from './layout.ts';
import { NO_SCRUB } from './scrub-record.ts';
import { checkRecord, RecordFile, type ReplicaPeer, type ReplicaRecord } from './record.ts';

/** Names the images that an unfinished creation was making, or a removal was to take away. */
const MARKER = 'creating';

export interface NewDisk {
  readonly target: string;
  /** Bytes. */
  readonly size: number;
  /** A qcow2 that is there already, with what it holds; left out: a new, empty one is made. */
  readonly path?: string;
}

export interface NewReplica extends Pick<
  ReplicaRecord,
  'id' | 'vmId' | 'vmName' | 'definition' | 'epoch' | 'intervalSeconds' | 'history'
> {
  readonly thin?: readonly ThinningRule[];
  readonly peer?: ReplicaPeer | null;
  readonly leaseSeconds?: number;
  readonly autoResync?: AutoResync;
  readonly definitionPolicy?: DefinitionPolicy;
  readonly received?: ReplicaRecord['received'];
  readonly disks: readonly NewDisk[];
  /** What the disks hold now is called so; the first log follows it. */
  readonly position: Position;
  /** The recovery point that this state is, if it is one. */
  readonly latest?: RecoveryPoint | null;
}

/** Durable when it resolves. Failures: `already-exists`, `disk-unsupported` (a given image of another size), `no-space`. */
export async function createReplica(directory: string, replica: NewReplica): Promise<void> {
  const {
    position,
    latest = null,
    thin = [],
    peer = null,
    leaseSeconds = 0,
    autoResync = DEFAULT_AUTO_RESYNC,
    definitionPolicy = DEFAULT_DEFINITION_POLICY,
    received = null,
    ...settings
  } = replica;
  const layout = new ReplicaLayout(directory);
  const disks = replica.disks.map(({ target, size, path }) => ({ target, size, path: path ?? layout.disk(target) }));
  const record = {
    ...settings,
    peer,
    thin: [...thin],
    leaseSeconds,
    autoResync,
    definitionPolicy,
    received,
    disks,
    start: position,
    applied: position,
    appliedLog: null,
    latest,
    held: [],
    damage: NO_DAMAGE,
    scrub: NO_SCRUB,
    suspended: false,
    frozen: false,
  };
  checkRecord(record); // before any of it becomes a path
  await layout.make();
  const there = await readdir(directory);
  if (there.includes('replica.json')) throw new Failure('already-exists', `a replica exists in ${directory}`);
  const marker = join(directory, MARKER);
  if (there.includes(MARKER)) await clearUnfinished(layout, marker);
  const created = replica.disks.filter(({ path }) => path === undefined).map(({ target }) => layout.disk(target));
  for (const path of created) await mustBeNew(path);
  await clearLogs(layout);
  await writeAtomic(marker, JSON.stringify(created.map((path) => basename(path))));
  for (const { target, size, path } of replica.disks) {
    if (path === undefined) await createImage(layout.disk(target), size, { format: 'qcow2' });
    else await adopt(path, size);
  }
  for (const path of [layout.directory, join(directory, '..')]) await syncDirectory(path);
  await RecordFile.create(directory, record);
  await removeDurably(marker);
}

/** Removes the images that are those of an unfinished replica. Others, which somebody kept, are nobody's to remove. */
async function clearUnfinished(layout: ReplicaLayout, marker: string): Promise<void> {
  const names = z.array(z.string()).parse(JSON.parse(await readFile(marker, 'utf8')));
  for (const name of names) await rm(join(layout.disks, basename(name)), { force: true });
  await removeDurably(marker);
}

async function mustBeNew(path: string): Promise<void> {
  const there = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (there === undefined) return;
  throw new Failure('already-exists', `image ${path} exists already`, {
    hint: 'It was kept when an earlier replica was removed: move it away, or compare with it.',
  });
}

async function clearLogs(layout: ReplicaLayout): Promise<void> {
  for (const directory of [layout.inbox, layout.undo, layout.digestFiles]) await rm(directory, { recursive: true });
  await layout.make();
}

/** An image that is there already becomes a disk of the replica, as it is. */
async function adopt(path: string, size: number): Promise<void> {
  const info = await imageInfo(path, { format: 'qcow2' });
  if (info.encrypted === true)
    throw new Failure('disk-encrypted', `${path} is encrypted, and a replica is kept in plain images`);
  if (info.size !== size) {
    throw new Failure('disk-unsupported', `${path} has ${info.size} bytes, the primary's disk ${size}`, {
      hint: 'Give both disks the same size, or replicate onto new disks.',
    });
  }
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Removes a replica's files. After a crash it is whole, or no replica any more: then calling this again takes away what is left, and a
 * creation in the same place doesn't take it for disks that somebody kept. Images that lie outside its directory were there before it, and
 * stay in any case.
 */
export async function removeReplica(directory: string, options: { keepDisks: boolean }): Promise<void> {
  const layout = new ReplicaLayout(directory);
  const there = await namesIn(directory);
  if (there.length === 0) return await rm(directory, { recursive: true, force: true });
  const marker = join(directory, MARKER);
  if (options.keepDisks) await removeDurably(marker);
  else await writeAtomic(marker, JSON.stringify(await namesIn(layout.disks)));
  await removeDurably(layout.record);
  crashPoint('replica:record-removed');
  const parts = options.keepDisks ? [layout.inbox, layout.undo, layout.digestFiles, layout.damaged] : [directory];
  for (const part of parts) await rm(part, { recursive: true, force: true });
}

/** None in a directory that isn't there. */
async function namesIn(directory: string): Promise<string[]> {
  return await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}
