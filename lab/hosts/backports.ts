import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../src/model/failure.ts';
import { run } from '../../src/lib/process.ts';

const CACHE = join(import.meta.dirname, '../../.cache');
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const MIRROR = 'http://deb.debian.org/debian';

/** libvirt and QEMU as Debian packages them, without what the libraries of the release itself give them. */
const DRIVERS = ['qemu', 'network', 'nodedev', 'secret', 'storage', 'nwfilter'];
const LIBVIRT = ['daemon', 'daemon-common', 'daemon-system', 'daemon-log', 'clients', 'common'];
const QEMU = ['system-common', 'system-data', 'system-x86', 'utils'];
const PACKAGES = [
  'libvirt0',
  'seabios',
  ...DRIVERS.map((driver) => `libvirt-daemon-driver-${driver}`),
  ...LIBVIRT.map((part) => `libvirt-${part}`),
  ...QEMU.map((part) => `qemu-${part}`),
];

/**
 * The newer pair of libvirt and QEMU from the backports of this machine's Debian release, unpacked and not installed.
 * @returns a directory to lay over a lab host's /usr: `LabOptions.usr`.
 */
async function backports(): Promise<string> {
  const release = /^VERSION_CODENAME=(\w+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'bookworm';
  const directory = join(CACHE, `backports-${release}`);
  const usr = join(directory, 'root/usr');
  if (existsSync(usr)) return usr;
  const making = `${directory}.${process.pid}`;
  try {
    await unpack(making, release);
    rmSync(directory, { recursive: true, force: true });
    renameSync(making, directory);
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
  return usr;
}

/** The same, or why there is none: this machine's Debian may have no backports, or no way to them. */
export async function backportsOrWhyNot(): Promise<string | Failure> {
  try {
    return await backports();
  } catch (error) {
    if (error instanceof Failure && error.code === 'missing-program') return error;
    throw error;
  }
}

/** With lists of packages of its own: the machine's stay as they are. */
async function unpack(directory: string, release: string): Promise<void> {
  for (const path of ['lists/partial', 'archives/partial', 'packages', 'root']) {
    mkdirSync(join(directory, path), { recursive: true });
  }
  const sources = join(directory, 'sources.list');
  const suites = [release, `${release}-updates`, `${release}-backports`];
  writeFileSync(sources, suites.map((suite) => `deb [signed-by=${KEYRING}] ${MIRROR} ${suite} main\n`).join(''));
  const own = {
    'Dir::Etc::sourcelist': sources,
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': join(directory, 'lists'),
    'Dir::Cache': directory,
    'APT::Sandbox::User': 'root',
  };
  const options = Object.entries(own).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  await must('apt-get', [...options, '-q', 'update']);
  const packages = join(directory, 'packages');
  const download = [...options, '-q', '-t', `${release}-backports`, 'download', ...PACKAGES];
  await must('sh', ['-c', 'cd "$1" && shift && exec apt-get "$@"', 'sh', packages, ...download]);
  for (const file of readdirSync(packages)) {
    await must('dpkg-deb', ['-x', join(packages, file), join(directory, 'root')]);
  }
  for (const path of ['lists', 'archives', 'packages']) rmSync(join(directory, path), { recursive: true });
}

async function must(program: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(program, args, { timeoutMs: 300_000 });
  if (code === 0) return;
  throw new Failure('missing-program', `libvirt and QEMU of the backports: ${program}: ${stderr.trim()}`, {
    hint: `Check that ${MIRROR} can be reached from here.`,
  });
}
