import { stat } from 'node:fs/promises';
import type { VmDisk } from '../hypervisor/hypervisor.ts';

/**
 * Tells whether images were written since: two equal stamps mean that nobody had them open for writing in between.
 * Undefined where that can't be told (block devices, images that aren't there).
 */
export async function stampOf(disks: readonly VmDisk[]): Promise<string | undefined> {
  const stamps: string[] = [];
  for (const { path } of disks) {
    const found = await stat(path, { bigint: true }).catch(() => undefined); // whoever opens it says why
    if (found === undefined || !found.isFile()) return undefined;
    stamps.push([found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':'));
  }
  return stamps.join(' ');
}
