/** The hypervisor that the configuration names. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Hypervisor } from '../hypervisor/hypervisor.ts';
import { LibvirtHypervisor } from '../hypervisor/libvirt/libvirt.ts';
import { QsdHost } from '../hypervisor/qsd/host.ts';
import { QsdHypervisor } from '../hypervisor/qsd/qsd.ts';
import type { Log } from '../lib/log.ts';
import type { Config } from './config/read.ts';

export interface OpenHypervisor {
  readonly hypervisor: Hypervisor;
  /** Ends connections; with `qsd`, whose VMs are processes of this daemon, the VMs too. */
  close(): Promise<void>;
}

/**
 * With `qsd` this daemon is the whole machine: it opens the disks that `vms/` in the state directory defines, those with
 * autostart at once, as libvirtd starts its guests. Failures: as `Hypervisor.start`.
 */
export async function openHypervisor(config: Config, log: Log): Promise<OpenHypervisor> {
  if (config.hypervisor === 'libvirt') {
    const { pointDirectory, libvirtSocket } = config;
    const socket = libvirtSocket === undefined ? {} : { socketPath: libvirtSocket };
    const hypervisor = new LibvirtHypervisor({ pointDirectory, log, ...socket });
    return { hypervisor, close: () => hypervisor.close() };
  }
  const runDirectory = join(config.runDirectory, 'vms');
  await mkdir(runDirectory, { recursive: true, mode: 0o711 });
  const host = new QsdHost({ directory: join(config.stateDirectory, 'vms'), runDirectory, log });
  const hypervisor = new QsdHypervisor(host);
  for (const { definition, autostart } of await host.files.list()) if (autostart) await hypervisor.start(definition.id);
  return { hypervisor, close: () => host.close() };
}
