/**
 * What a primary holds of a lease, in a file below the run directory: it outlives the daemon, not the boot. Also read by the guard, which
 * stops the VM when its daemon doesn't.
 */
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { bootId } from '../lib/boot-clock.ts';

const noteSchema = z.object({
  boot: z.string(),
  vmId: z.string(),
  vmName: z.string(),
  sentAt: z.number(),
  seconds: z.number(),
});

export type LeaseNote = Omit<z.infer<typeof noteSchema>, 'boot'>;

/** Undefined where there is none of this boot. */
export async function readLease(directory: string, id: string): Promise<LeaseNote | undefined> {
  const text = await readOrNothing(pathOf(directory, id));
  if (text === undefined) return undefined;
  const { boot, ...note } = noteSchema.parse(JSON.parse(text));
  return boot === bootId() ? note : undefined;
}

/** Whole or not at all; not synced: after a crash of the host nothing of it counts. */
export async function writeLease(directory: string, id: string, note: LeaseNote): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const temporary = `${pathOf(directory, id)}.${process.pid}`;
  await writeFile(temporary, JSON.stringify({ boot: bootId(), ...note }));
  await rename(temporary, pathOf(directory, id));
}

export async function removeLease(directory: string, id: string): Promise<void> {
  await rm(pathOf(directory, id), { force: true });
}

/** The guard has stopped the VM. In a file of its own: the daemon may be writing the note anew in the same moment. */
export async function markStopped(directory: string, id: string): Promise<void> {
  await writeFile(`${pathOf(directory, id)}.stopped`, bootId());
}

/** Whether the guard has stopped the VM since the mark was cleared last. */
export async function wasStopped(directory: string, id: string): Promise<boolean> {
  return (await readOrNothing(`${pathOf(directory, id)}.stopped`)) === bootId();
}

export async function clearStopped(directory: string, id: string): Promise<void> {
  await rm(`${pathOf(directory, id)}.stopped`, { force: true });
}

/** Relationships with a note. */
export async function listLeases(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return [];
  });
  return names.filter((name) => name.endsWith(SUFFIX)).map((name) => name.slice(0, -SUFFIX.length));
}

const SUFFIX = '.lease';

function pathOf(directory: string, id: string): string {
  return join(directory, `${id}${SUFFIX}`);
}

async function readOrNothing(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}
