/** What processes have used, by /proc. */
import { readdirSync, readFileSync } from 'node:fs';

/** Linux counts CPU time for programs in hundredths of a second, on every architecture. */
const TICKS_PER_SECOND = 100;

interface Stat {
  readonly parent: number;
  /** Ticks of the process and of its children that have ended and were waited for. */
  readonly ticks: number;
}

function readStat(pid: number): Stat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined; // it ended meanwhile
  }
  // the name in parentheses may hold anything; after it come: state, parent, … utime, stime, cutime, cstime at 14 to 17
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(fields[1]), ticks: [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0) };
}

/** These processes and all below them. */
export function tree(roots: readonly number[]): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? readStat(Number(name)) : undefined;
    if (stat !== undefined) parents.set(Number(name), stat.parent);
  }
  const found = new Set(roots);
  for (let grown = true; grown;) {
    grown = false;
    for (const [pid, parent] of parents) {
      if (found.has(parent) && !found.has(pid)) grown = Boolean(found.add(pid));
    }
  }
  return [...found];
}

/** CPU seconds of these processes, of all below them, and of children of theirs that have ended; 0.01 s exact. */
export function cpuSeconds(roots: readonly number[]): number {
  return tree(roots).reduce((sum, pid) => sum + (readStat(pid)?.ticks ?? 0), 0) / TICKS_PER_SECOND;
}

/** CPU seconds of the threads that a process has now, to the nanosecond; of it alone. */
export function threadSeconds(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
  }
  return nanoseconds / 1e9;
}

/** Resident memory of one process in bytes, now or at its highest. */
export function memory(pid: number, which: 'VmRSS' | 'VmHWM'): number {
  const match = new RegExp(`^${which}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1]) * 1024;
}

/** Bytes that a process has caused to be written to storage, or has put there; its own, not its children's. */
export function bytesWritten(pid: number): number {
  const match = /^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'));
  return Number(match?.[1]);
}
