import { stat } from 'node:fs/promises';
import type { VmDisk } from '../hypervisor/hypervisor.ts';
import { presentDisks } from '../model/shape.ts';
import { rawBeside } from '../qemu/tracking-image.ts';
import type { Replication } from './replication.ts';

/**
 * Tells whether images were written since: two equal stamps mean that nobody had them open for writing in between.
 * Undefined where that can't be told (block devices, images that aren't there).
 */
export async function stampOf(disks: readonly VmDisk[]): Promise<string | undefined> {
  const stamps: string[] = [];
  // Of a tracking image the raw file, too: that may be written past it.
  for (const path of disks.flatMap(({ path }) => [path, rawBeside(path) ?? path])) {
    const found = await stat(path, { bigint: true }).catch(() => undefined); // whoever opens it says why
    if (found === undefined || !found.isFile()) return undefined;
    stamps.push([found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':'));
  }
  return stamps.join(' ');
}

/**
 * Stamp of the images of a VM that is off, else undefined. That it is off now and was off before doesn't mean that it
 * didn't run in between.
 */
export async function stampAtRest({ services, record }: Replication): Promise<string | undefined> {
  const { hypervisor } = services;
  if ((await hypervisor.vmStatus(record.vmId)).state !== 'off') return undefined;
  const targets = new Set(presentDisks(record.disks).map(({ target }) => target));
  const { state, disks } = await hypervisor.getVm(record.vmId);
  if (state !== 'off') return undefined;
  const stamp = await stampOf(disks.filter(({ target }) => targets.has(target)));
  // A disk that was added is to be told of.
  return stamp === undefined ? undefined : `${stamp} ${disks.map(({ target }) => target).join()}`;
}
