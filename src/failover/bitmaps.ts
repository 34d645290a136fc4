import { imageInfo, removeBitmap } from '../qemu/image.ts';
import { BITMAP_PREFIX } from '../hypervisor/hypervisor.ts';
import { presentDisks } from '../model/shape.ts';
import type { RelationshipRecord } from '../store/store.ts';

/**
 * Removes every bitmap of ours, usable or not, from the disks of a VM that is off and whose definition is locked, so that
 * the hypervisor can't find them. A bitmap that a host's death left inconsistent would block resizing.
 */
export async function removeBitmapsFromDisks({ disks }: Pick<RelationshipRecord, 'disks'>): Promise<void> {
  for (const { path } of presentDisks(disks)) {
    const { bitmaps } = await imageInfo(path, { format: 'qcow2' });
    for (const { name } of bitmaps) if (name.startsWith(BITMAP_PREFIX)) await removeBitmap(path, name);
  }
}
