import { access, readFile } from 'node:fs/promises';
import type { Log } from '../../lib/log.ts';
import { mayAs, type UserIds } from '../../lib/rights.ts';
import { run } from '../../lib/process.ts';
import { asFailure } from '../../model/failure.ts';
import type { Hypervisor } from '../../hypervisor/hypervisor.ts';
import type { Confinement, MachineFacts } from './machine.ts';

/** Site's own rules for what QEMU may open, where Debian and Ubuntu have them. */
const LOCAL_RULES = '/etc/apparmor.d/local/abstractions/libvirt-qemu';

export async function lookAtMachine(
  hypervisor: Pick<Hypervisor, 'versions'>,
  user: UserIds | undefined,
  pointDirectory: string,
  log: Log,
): Promise<MachineFacts> {
  const [cpu, kvm, vmUser, versions, confinement] = await Promise.all([
    cpuFlag(),
    kvmFor(user, log),
    userText(user),
    hypervisor.versions().catch((error: unknown) => asFailure(error).toJSON()),
    lookAtConfinement(pointDirectory),
  ]);
  return { cpu, kvm, vmUser, versions, ...confinement };
}

/** What keeps QEMU to its own files on this host. */
export async function lookAtConfinement(pointDirectory: string): Promise<Confinement> {
  const [appArmor, seLinux] = await Promise.all([appArmorFor(pointDirectory), seLinuxOf(pointDirectory)]);
  return {
    pointDirectory,
    ...(appArmor === undefined ? {} : { appArmor }),
    ...(seLinux === undefined ? {} : { seLinux }),
  };
}

/** A user as people know him: `libvirt-qemu (uid 64055)`. */
export async function userText(user: UserIds | undefined): Promise<string> {
  if (user === undefined) return "understudyd's own user";
  const list = (await textOf('/etc/passwd')) ?? '';
  const name = list.split('\n').find((line) => line.split(':')[2] === String(user.uid));
  return name === undefined ? `uid ${user.uid}` : `${name.split(':')[0]} (uid ${user.uid})`;
}

async function cpuFlag(): Promise<MachineFacts['cpu']> {
  const flags = /^flags\s*:(.*)$/m.exec((await textOf('/proc/cpuinfo')) ?? '')?.[1];
  if (flags === undefined) return 'unknown';
  return (['vmx', 'svm'] as const).find((flag) => flags.split(' ').includes(flag)) ?? 'none';
}

async function kvmFor(user: UserIds | undefined, log: Log): Promise<MachineFacts['kvm']> {
  const path = '/dev/kvm';
  try {
    await access(path);
  } catch {
    return 'absent';
  }
  try {
    const rights = await mayAs(user, [
      { path, right: 'read' },
      { path, right: 'write' },
    ]);
    return rights.every(Boolean) ? 'usable' : 'barred';
  } catch (error) {
    log.warn({ err: error }, "the rights of QEMU's user can't be asked");
    return 'unknown';
  }
}

async function appArmorFor(pointDirectory: string): Promise<MachineFacts['appArmor']> {
  if (!(await textOf('/sys/module/apparmor/parameters/enabled'))?.startsWith('Y')) return undefined;
  const rules = ((await textOf(LOCAL_RULES)) ?? '').split('\n').filter((line) => !line.trimStart().startsWith('#'));
  return { namesPoints: rules.some((line) => line.includes(`${pointDirectory}/`)) };
}

async function seLinuxOf(pointDirectory: string): Promise<MachineFacts['seLinux']> {
  if ((await textOf('/sys/fs/selinux/enforce'))?.trim() !== '1') return undefined;
  return { label: (await run('stat', ['--format=%C', pointDirectory])).stdout.trim() };
}

/** Undefined where there is no such file, or it may not be read: then what it would say isn't in force as far as can be seen. */
async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return undefined;
  }
}
