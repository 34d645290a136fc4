/**
 * Who dies at a crash point of a process of ours: it alone, as `UNDERSTUDY_CRASH` has it; its storage daemons with it; or, the
 * first time in each thread, its storage daemons alone. A process that is to be killed imports this (`--import` for its lanes,
 * too); `DIES` says which.
 */
import { readdirSync, readFileSync } from 'node:fs';

export const WHO_DIES = ['daemon', 'both', 'engine'] as const;
export type WhoDies = (typeof WHO_DIES)[number];

const dies = process.env['DIES'] ?? 'daemon';
const kill = process.kill.bind(process);
let engineDied = false;

process.kill = (pid, signal) => {
  if (pid !== process.pid || signal !== 'SIGKILL' || dies === 'daemon') return kill(pid, signal);
  if (dies === 'both' || !engineDied) for (const engine of storageDaemons()) kill(engine, 'SIGKILL');
  if (dies === 'both') return kill(pid, signal);
  engineDied = true;
  return true;
};

/** Those that this process has started. */
function storageDaemons(): number[] {
  const numbers = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return numbers.filter(isOurs).map(Number);
}

function isOurs(pid: string): boolean {
  try {
    const [, name, rest] = /\((.*)\) (.*)$/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return name?.startsWith('qemu-storage') === true && rest?.split(' ')[1] === String(process.pid);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ESRCH') throw error;
    return false; // it has ended meanwhile
  }
}
