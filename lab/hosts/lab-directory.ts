import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { Namespace } from './namespace.ts';
import { type ProcessIdentity, identify, isAlive, signalProcess } from './process-identity.ts';

/** Short, because unix socket paths (at most 107 bytes) lie below it; and never in a directory that hosts replace. */
const ROOT = '/tmp';
const PREFIX = 'us-lab-';
const MOST_LABS = 250;
/** A lab directory without a record is being made, unless it is older than this. */
const BEING_MADE_MS = 60_000;

/** What a lab leaves on disk, so that another process can remove it. */
export interface LabRecord {
  readonly name: string;
  readonly creator: ProcessIdentity;
  /** It is meant to outlive its creator. */
  readonly kept: boolean;
  readonly hosts: readonly string[];
}

/** Takes the first free index; making the directory is the lock. */
export function claimLabDirectory(name: string, hosts: readonly string[]): { index: number; directory: string } {
  for (let index = 0; index < MOST_LABS; index++) {
    const directory = join(ROOT, `${PREFIX}${index}`);
    try {
      mkdirSync(directory, { mode: 0o755 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw error;
    }
    writeLabRecord(directory, { name, creator: identify(process.pid)!, kept: false, hosts });
    return { index, directory };
  }
  throw new Failure('already-exists', `all ${MOST_LABS} labs are taken`, { hint: 'Remove left-overs: Lab.clean().' });
}

export function writeLabRecord(directory: string, record: LabRecord): void {
  writeFileSync(join(directory, 'lab.json'), JSON.stringify(record, null, 2));
}

export function readLabRecord(directory: string): LabRecord | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, 'lab.json'), 'utf8')) as LabRecord;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/**
 * Directories of labs that nobody looks after any more. One at a time: whether it is still so must be asked just before
 * it is removed.
 */
export function* leftLabDirectories(options: { kept: boolean }): Generator<string> {
  for (const entry of readdirSync(ROOT)) {
    const directory = join(ROOT, entry);
    if (entry.startsWith(PREFIX) && isLeft(directory, options.kept)) yield directory;
  }
}

function isLeft(directory: string, kept: boolean): boolean {
  const record = readLabRecord(directory);
  if (record !== undefined) return !isAlive(record.creator) && (kept || !record.kept);
  const made = statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? Infinity;
  return made < Date.now() - BEING_MADE_MS;
}

/**
 * Kills every process of a lab and removes its files, without knowing anything but its directory. None there is no error.
 */
export async function removeLabDirectory(directory: string): Promise<void> {
  const taken = takeAway(directory);
  if (taken === undefined) return;
  for (const part of parts(taken)) await Namespace.find([], part)?.kill();
  await until(() => removed(taken), {
    timeoutMs: 10_000,
    everyMs: 20,
    onTimeout: () => new Failure('io', `${taken} can't be removed`),
  });
}

/** The same for the last moment of a process, when nothing can be awaited any more. */
export function removeLabDirectorySync(directory: string): void {
  const taken = takeAway(directory);
  if (taken === undefined) return;
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (const part of parts(taken)) {
    const init = Namespace.find([], part)?.init;
    if (init === undefined || !signalProcess(init, 'SIGKILL')) continue;
    for (let tries = 0; isAlive(init) && tries < 1000; tries++) Atomics.wait(pause, 0, 0, 5);
  }
  rmSync(taken, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
}

/**
 * Renames a lab's directory, which frees its index in one moment: of several who remove it one does, and none of them
 * touches the lab that takes the index next.
 */
function takeAway(directory: string): string | undefined {
  const taken = `${directory}.${randomUUID().slice(0, 8)}`;
  try {
    renameSync(directory, taken);
    return taken;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function parts(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(directory, entry.name));
}

/** The mounts end a moment after the last process does; until then a directory may be busy. */
function removed(directory: string): boolean {
  try {
    rmSync(directory, { recursive: true, force: true });
    return true;
  } catch (error) {
    if (['EBUSY', 'ENOTEMPTY'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}
