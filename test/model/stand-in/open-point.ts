/** Stands in for `primary/open-point.ts`: opens and closes, without a clock or a file system to watch meanwhile. */
import type { Point } from '../../../src/hypervisor/hypervisor.ts';
import type { PointRequest } from '../../../src/primary/open-point.ts';
import type { Replication } from '../../../src/primary/replication.ts';

export async function withPoint<T>(
  replication: Replication,
  { since, next }: PointRequest,
  signal: AbortSignal,
  work: (point: Point, signal: AbortSignal) => Promise<T>,
): Promise<{ result: T; jobMs: number }> {
  const { hypervisor } = replication.services;
  const { vmId } = replication.record;
  const point = await hypervisor.openPoint({ vmId, targets: replication.targets(), since, next });
  try {
    return { result: await work(point, signal), jobMs: 0 };
  } finally {
    await hypervisor.closePoint(vmId);
  }
}
