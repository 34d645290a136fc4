/** A VM's QEMU, past libvirt: what libvirt doesn't tell, and for when it doesn't answer and the VM must stop all the same. */
import { readFile, stat } from 'node:fs/promises';

/** Where libvirtd and virtqemud (system instance) note the QEMU of each VM. */
const RUN_DIRECTORY = '/run/libvirt/qemu';

/**
 * Ends the QEMU of a VM at once, as a power cut does. False when it isn't running. libvirt sees it off as soon as it looks.
 * @param vmId checked against QEMU's command line: a pid may be another process's by now.
 */
export async function endQemu(vmName: string, vmId: string): Promise<boolean> {
  const pid = await readOrNothing(pidFileOf(vmName));
  if (pid === undefined) return false;
  const command = await readOrNothing(`/proc/${pid.trim()}/cmdline`);
  if (command === undefined || !command.split('\0').includes(vmId)) return false;
  try {
    process.kill(Number(pid), 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    return false;
  }
  return true;
}

/** For how long the QEMU of a VM has run, ms; undefined where libvirt notes none. It notes one as it starts it. */
export async function qemuAge(vmName: string): Promise<number | undefined> {
  try {
    return Math.max(0, Date.now() - (await stat(pidFileOf(vmName))).mtimeMs);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

const pidFileOf = (vmName: string): string => `${RUN_DIRECTORY}/${vmName}.pid`;

async function readOrNothing(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
