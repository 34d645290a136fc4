/** Where a copy goes on when it is done with a disk, or disks have become others under it. Pure. */
import type { ReplicatedDisk } from '../model/relationship.ts';
import { nextPresent } from '../model/shape.ts';
import type { CopyProgress } from '../store/store.ts';

export function behindDisk(copy: CopyProgress, disks: readonly ReplicatedDisk[]): CopyProgress {
  const disk = copy.alone === true ? disks.length : nextPresent(disks, copy.disk + 1);
  return { ...copy, disk, offset: 0 };
}

/** A copy goes on behind a disk that is gone, or that has become shorter than what is copied of it. */
export function behindEnds(copy: CopyProgress, disks: readonly ReplicatedDisk[]): CopyProgress {
  const disk = disks[copy.disk];
  const goesOn = disk === undefined || (disk.gone !== true && copy.offset < disk.size);
  return goesOn ? copy : behindDisk(copy, disks);
}
