/** A VM's QEMU, past libvirt: for when libvirt doesn't answer and the VM must stop all the same. */
import { readFile } from 'node:fs/promises';

/** Where libvirtd and virtqemud (system instance) note the QEMU of each VM. */
const RUN_DIRECTORY = '/run/libvirt/qemu';

/**
 * Ends the QEMU of a VM at once, as a power cut does. False when it isn't running. libvirt sees it off as soon as it looks.
 * @param vmId checked against QEMU's command line: a pid may be another process's by now.
 */
export async function endQemu(vmName: string, vmId: string): Promise<boolean> {
  const pid = await readOrNothing(`${RUN_DIRECTORY}/${vmName}.pid`);
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

async function readOrNothing(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
