/** The guard of leases, as its daemon sees it: a process that lives on when the daemon dies or hangs (lease-guard.worker.ts). */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { workerModule } from '../lanes/lanes.ts';

/** Where a guard says that it lives. */
export const GUARD_PID = 'guard.pid';

/** Starts the guard of a directory of leases unless one lives. */
export async function keepGuard(directory: string, libvirtSocket: string | undefined): Promise<void> {
  if (await guardLives(directory)) return;
  const program = fileURLToPath(workerModule(import.meta.url, './lease-guard'));
  const socket = libvirtSocket === undefined ? [] : [libvirtSocket];
  spawn(process.execPath, [program, directory, ...socket], { detached: true, stdio: ['ignore', 'ignore', 'inherit'] })
    .on('error', () => undefined) // the next look tries again
    .unref();
}

/** A pid may be somebody else's by now: its command line tells. */
export async function guardLives(directory: string): Promise<boolean> {
  try {
    const pid = (await readFile(join(directory, GUARD_PID), 'utf8')).trim();
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8');
    return command.split('\0').includes(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return false;
    throw error;
  }
}
