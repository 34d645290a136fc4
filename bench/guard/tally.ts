/** What a daemon has counted, and what the kernel has counted of it. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { threadSeconds } from '../measure/processes.ts';
import type { Counts } from './count.ts';

export interface Tally extends Counts {
  /** Bytes given to and taken from the kernel, sockets too; and how many calls that took. */
  readonly read: number;
  readonly written: number;
  readonly calls: number;
  readonly cpuSeconds: number;
}

/** Of one process, so far: short of at most 256 KiB a thread. */
export function tally(directory: string, pid: number): Tally {
  const counts: Counts = { copied: 0, cloned: 0, hashed: 0, packed: 0, unpacked: 0 };
  for (const file of readdirSync(directory).filter((name) => name.startsWith(`${pid}-`))) {
    const thread = JSON.parse(readFileSync(join(directory, file), 'utf8')) as Counts;
    for (const kind of Object.keys(counts) as (keyof Counts)[]) counts[kind] += thread[kind];
  }
  const io = readFileSync(`/proc/${pid}/io`, 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}: (\\d+)`, 'm').exec(io)![1]);
  const calls = field('syscr') + field('syscw');
  return { ...counts, read: field('rchar'), written: field('wchar'), calls, cpuSeconds: threadSeconds(pid) };
}

export function difference(after: Tally, before: Tally): Tally {
  const kinds = Object.keys(after) as (keyof Tally)[];
  return Object.fromEntries(kinds.map((kind) => [kind, after[kind] - before[kind]])) as unknown as Tally;
}
