/** What a host's processes and files take, as this machine sees them. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostDaemon } from '../../../lab/daemons/host-daemon.ts';

const MIB = 2 ** 20;

/** Of one host. Memory and room in MiB. */
export interface HostSample {
  readonly rss: number;
  readonly descriptors: number;
  readonly threads: number;
  /** All of the host, the daemon among them. */
  readonly processes: number;
  /** qemu-storage-daemons of the replica, together. */
  readonly engines: number;
  readonly libvirtd: number;
  /** Memory of each VM's QEMU. */
  readonly guests: Readonly<Record<string, number>>;
  /** Database, journal, digests, outbox. */
  readonly state: number;
  /** Received logs and undo logs. */
  readonly logs: number;
  /** The replica's disks: no more than their size, however long one looks. */
  readonly disks: number;
}

interface Process {
  readonly pid: number;
  readonly command: readonly string[];
  readonly rss: number;
  readonly threads: number;
}

export async function sampleHost(daemon: HostDaemon): Promise<HostSample> {
  const pid = await daemon.pid();
  const all = processesBeside(pid);
  const own = all.find((one) => one.pid === pid)!;
  const running = (program: string) => all.filter(({ command }) => command[0]?.split('/').at(-1) === program);
  const memoryOf = (some: readonly Process[]) => some.reduce((sum, { rss }) => sum + rss, 0);
  const guests = running('qemu-system-x86_64').map(({ command, rss }) => [nameOf(command), rss] as const);
  return {
    rss: own.rss,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: own.threads,
    processes: all.length,
    engines: memoryOf(running('qemu-storage-daemon')),
    libvirtd: memoryOf(running('libvirtd')),
    guests: Object.fromEntries(guests),
    ...(await roomOf(daemon.host.path('/var/lib/understudy'))),
  };
}

function nameOf(command: readonly string[]): string {
  const name = command[command.indexOf('-name') + 1] ?? '';
  return /guest=([^,]*)/.exec(name)?.[1] ?? name;
}

/** Those in the same PID namespace. */
function processesBeside(pid: number): Process[] {
  const namespace = readlinkSync(`/proc/${pid}/ns/pid`);
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.flatMap((one) => {
    try {
      if (readlinkSync(`/proc/${one}/ns/pid`) !== namespace) return [];
      const status = readFileSync(`/proc/${one}/status`, 'utf8');
      const number = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
      const command = readFileSync(`/proc/${one}/cmdline`, 'utf8').split('\0');
      return [{ pid: Number(one), command, rss: number('VmRSS') / 1024, threads: number('Threads') }];
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // It has ended meanwhile; or it is the machine's first, which shows nothing of itself.
      if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES') return [];
      throw error;
    }
  });
}

async function roomOf(directory: string): Promise<Pick<HostSample, 'state' | 'logs' | 'disks'>> {
  const room = { state: 0, logs: 0, disks: 0 };
  for (const path of await filesBelow(directory)) {
    const kind = !path.startsWith(join(directory, 'replicas/')) ? 'state' : path.endsWith('.qcow2') ? 'disks' : 'logs';
    const found = await unlessGone(lstat(path));
    room[kind] += ((found?.blocks ?? 0) * 512) / MIB;
  }
  return room;
}

/** Directories come and go meanwhile. */
async function filesBelow(directory: string): Promise<string[]> {
  const entries = (await unlessGone(readdir(directory, { withFileTypes: true }))) ?? [];
  const below = entries.map(async (entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return await filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
  return (await Promise.all(below)).flat();
}

async function unlessGone<T>(looked: Promise<T>): Promise<T | undefined> {
  return await looked.catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}
