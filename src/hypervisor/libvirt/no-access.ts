import { dirname } from 'node:path';
import { firstBarred, type UserIds } from '../../lib/rights.ts';
import { Failure } from '../../model/failure.ts';

/** Whether libvirt's words say that QEMU may not open, make or bind something. */
export function isNoAccess(message: string): boolean {
  return /permission denied|operation not permitted/i.test(message);
}

/**
 * What QEMU may not do, with the rule that is missing: on the way to our directory, or, where owner and mode let it through, of AppArmor
 * or SELinux.
 * @param directory of the VM's open point. @param user QEMU's own; undefined where libvirt doesn't say.
 */
export async function noAccess(
  vmName: string,
  directory: string,
  user: UserIds | undefined,
  cause: Error,
): Promise<Failure> {
  const path = pathIn(cause.message) ?? directory;
  const isOurs = path.startsWith(directory);
  const bar = await barred(isOurs ? directory : dirname(path), user);
  const message = `QEMU of VM ${vmName} may not use ${path}: ${cause.message}`;
  return new Failure('no-access', message, { cause, hint: cureFor(isOurs ? `${directory}/job/*` : path, bar) });
}

/** The path that libvirt's words name. */
function pathIn(message: string): string | undefined {
  return /['\s](\/[^\s':]+)'?: (?:permission denied|operation not permitted)/i.exec(message)?.[1];
}

/** @param files as a rule of AppArmor names them. */
function cureFor(files: string, bar: string | undefined): string {
  if (bar !== undefined) {
    return `QEMU's user can't pass ${bar}: \`chmod o+x ${bar}\`, or use a directory that he gets to (ours is \`pointDirectory\`).`;
  }
  return (
    `Owner and mode are right, so a rule of AppArmor or SELinux is missing. AppArmor: \`${files} rwk,\` in ` +
    '/etc/apparmor.d/local/abstractions/libvirt-qemu; SELinux: the label qemu_var_run_t. docs/rights.md has both, for all VMs.'
  );
}

/** Undefined: the way is free, or nobody can say. */
async function barred(directory: string, user: UserIds | undefined): Promise<string | undefined> {
  if (user === undefined) return undefined;
  try {
    return await firstBarred(user, directory);
  } catch {
    return undefined; // this process isn't root: the failure that is told of is QEMU's
  }
}
