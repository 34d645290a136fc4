import { readFile } from 'node:fs/promises';
import { removeDurably, writeAtomic } from '../lib/atomic-file.ts';
import { until } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';

/**
 * A child process as its pid file names it, so that whoever comes after a crash of ours can end exactly this one.
 * A pid alone is reused sooner or later: start time and an argument that nobody else has go with it.
 */
interface Recorded {
  readonly pid: number;
  /** Clock ticks from boot to its start: field 22 of /proc/PID/stat. */
  readonly startTime: string;
  /** An argument of its command line that is its alone, such as the path of its socket. */
  readonly mark: string;
}

/** Writes the pid file of a child that has just been started. `mark` must be one of its arguments. */
export async function recordProcess(pidFile: string, pid: number, mark: string): Promise<void> {
  const startTime = await startTimeOf(pid);
  if (startTime === undefined) return; // gone already: nothing to end later
  await writeAtomic(pidFile, `${JSON.stringify({ pid, startTime, mark } satisfies Recorded)}\n`);
}

/**
 * Ends the process that a pid file names, if it is still that one (asked first, forced after `patienceMs`), and removes
 * the file. Gives its pid, or undefined when there was nothing to end. Failure `disk-engine` when it can't be ended.
 */
export async function endPredecessor(pidFile: string, patienceMs = 5000): Promise<number | undefined> {
  const recorded = await readPidFile(pidFile);
  if (recorded === undefined) return undefined;
  let ended: number | undefined;
  if (await isAlive(recorded)) {
    ended = recorded.pid;
    await end(recorded, patienceMs);
  }
  await removeDurably(pidFile);
  return ended;
}

/** Whether the process that a pid file names is still that one. */
export async function predecessorLives(pidFile: string): Promise<boolean> {
  const recorded = await readPidFile(pidFile);
  return recorded !== undefined && (await isAlive(recorded));
}

async function end(recorded: Recorded, patienceMs: number): Promise<void> {
  const stuck = new Failure('disk-engine', `process ${recorded.pid} left by a predecessor can't be ended`);
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    try {
      process.kill(recorded.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw error;
    }
    try {
      await until(async () => !(await isAlive(recorded)), {
        timeoutMs: patienceMs,
        everyMs: 20,
        onTimeout: () => stuck,
      });
      return;
    } catch (error) {
      if (error !== stuck || signal === 'SIGKILL') throw error;
    }
  }
}

/** Whether exactly that process is still there; a zombie isn't. */
async function isAlive(recorded: Recorded): Promise<boolean> {
  if ((await startTimeOf(recorded.pid)) !== recorded.startTime) return false;
  const commandLine = await readIfThere(`/proc/${recorded.pid}/cmdline`);
  return commandLine !== undefined && commandLine.includes(recorded.mark);
}

/** Field 22 of /proc/PID/stat, or undefined when there is no such process or only its zombie. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readIfThere(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The program's name (field 2) may hold spaces and parentheses: count from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

async function readPidFile(path: string): Promise<Recorded | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    const { pid, startTime, mark } = JSON.parse(text) as Partial<Recorded>;
    if (Number.isInteger(pid) && pid! > 1 && typeof startTime === 'string' && typeof mark === 'string' && mark !== '') {
      return { pid: pid!, startTime, mark };
    }
  } catch (cause) {
    throw new Failure('disk-engine', `pid file ${path} is not readable`, { cause, hint: unreadableHint });
  }
  throw new Failure('disk-engine', `pid file ${path} is not readable`, { hint: unreadableHint });
}

const unreadableHint = 'See that no qemu-storage-daemon of that directory runs, then remove the file.';

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
