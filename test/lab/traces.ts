import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';

const processes = () => readdirSync('/proc').filter((name) => /^\d+$/.test(name) && name !== String(process.pid));

/** A file of a process that may end at any moment, or belong to somebody whom even root can't look at: then there is nothing in it. */
function ofProcess(read: () => string): string {
  try {
    return read();
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EINVAL', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}

/** What is left on this machine of a lab: its files, processes that name it, mounts of any process that lie in it. */
export function tracesOf(directory: string): string[] {
  const found = existsSync(directory) ? [`directory ${directory}`] : [];
  for (const pid of processes()) {
    for (const file of ['cmdline', 'mountinfo']) {
      const content = ofProcess(() => readFileSync(`/proc/${pid}/${file}`, 'utf8'));
      if (content.includes(`${directory}/`)) found.push(`${file} of process ${pid}`);
    }
  }
  return found;
}

/** The processes (as the machine sees them) that share a process's network namespace, itself included. */
export function processesBeside(pid: number): number[] {
  const network = (of: number | string) => ofProcess(() => readlinkSync(`/proc/${of}/ns/net`));
  const own = network(pid);
  if (own === '') throw new Error(`no process ${pid}`);
  return processes()
    .filter((other) => network(other) === own)
    .map(Number);
}

/** Interfaces and named network namespaces of the machine itself. */
export function machineNetwork(): string[] {
  const named = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  return [...readdirSync('/sys/class/net'), ...named].toSorted();
}
