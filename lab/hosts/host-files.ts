import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

export type QemuUser = 'root' | 'libvirt-qemu';

/** What a host has for itself; all the rest of the file system is the machine's. */
const OWN = ['etc', 'run', 'var'];
/** Of /etc, only these are the host's own. */
const OWN_ETC = new Set(['libvirt', 'understudy', 'hosts', 'hostname', 'machine-id', 'resolv.conf', 'mtab']);

export interface HostIdentity {
  readonly name: string;
  readonly address: string;
}

/** Where a path of the host is to be found from outside. `path` is absolute and has no `..`. */
export function outsidePath(directory: string, path: string): string {
  const [, first] = path.split('/');
  return first !== undefined && OWN.includes(first) ? join(directory, path.replace(/^\/var\/run\//, '/run/')) : path;
}

/** Makes a new host's private directories: a machine with libvirt just installed and nothing defined. */
export function createHostFiles(
  directory: string,
  self: HostIdentity,
  all: readonly HostIdentity[],
  qemuUser: QemuUser,
): void {
  for (const path of ['machine-etc', 'etc/libvirt', 'etc/understudy', 'run', 'var/root', 'var/tmp', 'var/spool']) {
    mkdirSync(join(directory, path), { recursive: true, mode: 0o755 });
  }
  chmodSync(join(directory, 'var/tmp'), 0o1777);
  for (const path of [
    'lib/libvirt/images',
    'lib/libvirt/boot',
    'lib/understudy',
    'log/libvirt/qemu',
    'cache/libvirt',
  ]) {
    mkdirSync(join(directory, 'var', path), { recursive: true, mode: 0o755 });
  }
  symlinkSync('/run', join(directory, 'var/run'));
  symlinkSync('/run/lock', join(directory, 'var/lock'));
  linkEtc(directory);

  const etc = (name: string, content: string) => writeFileSync(join(directory, 'etc', name), content, { mode: 0o644 });
  etc('hostname', `${self.name}\n`);
  etc('machine-id', `${randomUUID().replaceAll('-', '')}\n`);
  // libvirt looks its own name up at every start of a domain: without this it waits for DNS
  etc('hosts', ['127.0.0.1 localhost', ...all.map(({ name, address }) => `${address} ${name}`), ''].join('\n'));
  etc('resolv.conf', '');
  etc(
    'libvirt/libvirtd.conf',
    [
      `host_uuid = "${randomUUID()}"`,
      'auth_unix_rw = "none"',
      'unix_sock_rw_perms = "0777"',
      'listen_tls = 0',
      'log_outputs = "3:file:/var/log/libvirt/libvirtd.log"',
      '',
    ].join('\n'),
  );
  etc(
    'libvirt/qemu.conf',
    [
      `user = "${qemuUser}"`,
      `group = "${qemuUser}"`,
      'security_driver = "none"',
      'stdio_handler = "file"', // no virtlogd
      'cgroup_controllers = []',
      'namespaces = []',
      'remember_owner = 0', // its records count on a new boot time of the kernel, which a lab's crash doesn't give
      '',
    ].join('\n'),
  );
}

/** What a reboot does to the file system: /run is new. */
export function bootHostFiles(directory: string): void {
  const run = join(directory, 'run');
  for (const entry of readdirSync(run)) rmSync(join(run, entry), { recursive: true, force: true });
  for (const path of ['lock', 'libvirt', 'understudy']) mkdirSync(join(run, path), { mode: 0o755 });
}

function linkEtc(directory: string): void {
  for (const entry of readdirSync('/etc')) {
    if (OWN_ETC.has(entry)) continue;
    const link = join(directory, 'etc', entry);
    // links are kept as they are: their targets may be relative to /etc
    if (lstatSync(join('/etc', entry)).isSymbolicLink()) cpSync(join('/etc', entry), link, { verbatimSymlinks: true });
    else symlinkSync(join(directory, 'machine-etc', entry), link);
  }
  if (existsSync('/etc/mtab')) symlinkSync('/proc/self/mounts', join(directory, 'etc/mtab'));
}
