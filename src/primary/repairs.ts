/** Blocks that are known to differ at the replica, and go with the next cycle, whatever the bitmap says. */
import type { BlockRange } from '../digests/digest-pages.ts';
import { clip, totalLength, union, without, type ChangedExtent, type Extent } from '../model/extent.ts';
import { Failure } from '../model/failure.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { presentDisks } from '../model/shape.ts';
import { NOT_VERIFIED, type Repair } from '../model/verification.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import type { PointReader } from './capture.ts';
import type { Replication } from './replication.ts';

/** More runs than these aren't kept: then all is compared. */
const MOST = 1024;

/** Of one disk, sorted. */
export function repairsOf(replication: Replication, disk: number): Extent[] {
  const { verification = NOT_VERIFIED, disks } = replication.record;
  return union(verification.repairs.filter(({ target }) => target === disks[disk]!.target));
}

export function hasRepairs(replication: Replication): boolean {
  return (replication.record.verification?.repairs.length ?? 0) > 0;
}

/** The replica isn't taken to have them any more. */
export async function forgetRepairs(replication: Replication): Promise<void> {
  if (!hasRepairs(replication)) return;
  const ranges: BlockRange[][] = replication.record.disks.map((_, disk) =>
    repairsOf(replication, disk).map(({ offset, length }) => ({
      from: Math.floor(offset / DIGEST_BLOCK),
      to: Math.ceil((offset + length) / DIGEST_BLOCK),
    })),
  );
  await replication.services.known.forgetBlocks(ranges);
}

/** What has changed of a disk, with what is to be sent again. */
export async function withRepairs(
  replication: Replication,
  reader: PointReader,
  disk: number,
  changed: readonly ChangedExtent[],
): Promise<ChangedExtent[]> {
  const repairs = repairsOf(replication, disk);
  if (repairs.length === 0) return [...changed];
  const all = [...without(changed, repairs)];
  for (const { offset, length } of repairs) all.push(...(await reader.all(disk, offset, offset + length)));
  return all.toSorted((a, b) => a.offset - b.offset);
}

/** The last one of a disk may be shorter. */
export function blocksOf(bytes: number): number {
  return Math.ceil(bytes / DIGEST_BLOCK);
}

/**
 * Notes what is to be sent again, and counts what wasn't known to differ. Failure `tracking-lost` where that is so much, or so scattered, that both sides are to be compared as a
 * whole: the next agreement does.
 */
export function addRepairs(replication: Replication, told: readonly Repair[]): void {
  const { verification = NOT_VERIFIED, disks, vmName } = replication.record;
  // The replica tells of its disks, which follow later when these become shorter.
  const found = within(told, disks);
  if (found.length === 0) return;
  const targets = disks.map(({ target }) => target);
  const repairs = targets.flatMap((target) =>
    union([...verification.repairs, ...found].filter((one) => one.target === target)).map((run) => ({
      target,
      ...run,
    })),
  );
  const different = verification.different + blocksOf(totalLength(repairs) - totalLength(verification.repairs));
  if (repairs.length <= MOST) {
    replication.update({ verification: { ...verification, repairs, different } });
    return;
  }
  replication.update({ verification: { ...verification, pass: null, repairs: [], different }, bitmap: null });
  throw new Failure('tracking-lost', `${vmName} differs from its replica in more than ${MOST} places`);
}

/** What of it lies on disks of these sizes. */
export function within(repairs: readonly Repair[], disks: readonly ReplicatedDisk[]): Repair[] {
  const there = presentDisks(disks);
  return repairs.flatMap((one) => clip(one, 0, there.find(({ target }) => target === one.target)?.size ?? 0) ?? []);
}

/** These were found to be the same at both sides. */
export function repaired(repairs: readonly Repair[], target: string, same: readonly Extent[]): Repair[] {
  return repairs.flatMap((one) => (one.target === target ? without([one], same) : [one]));
}
