import { readFileSync } from 'node:fs';

/**
 * A process that can be told from a later one of the same pid.
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks after boot, from /proc/PID/stat. */
  readonly startTime: string;
  readonly bootId: string;
}

/** Reads the one line of /proc/PID/stat; undefined where it isn't whole. */
export function parseStat(stat: string): { pid: number; state: string; startTime: string } | undefined {
  // pid (comm) state ppid …: comm may hold anything, also brackets and spaces
  const match = /^(\d+) \(.*\) (.*)$/s.exec(stat.trimEnd());
  if (match === null) return undefined;
  const fields = match[2]!.split(' ');
  const startTime = fields[19];
  if (startTime === undefined) return undefined;
  return { pid: Number(match[1]), state: fields[0]!, startTime };
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** The process of that pid now, or undefined. A zombie counts as gone. */
export function identify(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
  const parsed = parseStat(stat);
  if (parsed === undefined || parsed.state === 'Z' || parsed.state === 'X') return undefined;
  return { pid, startTime: parsed.startTime, bootId: bootId() };
}

export function isAlive(process: ProcessIdentity): boolean {
  const now = identify(process.pid);
  return now !== undefined && now.startTime === process.startTime && now.bootId === process.bootId;
}

/** Sends a signal to exactly that process; false when it is gone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}
