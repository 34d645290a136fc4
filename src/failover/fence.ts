/** How a replica keeps the old primary out, before it becomes the primary itself. */
import { Failure } from '../model/failure.ts';
import { move, replicaOf, type FailoverServices } from './services.ts';

/**
 * From here on whatever the old primary still sends is refused. That a failover is under way is said before the epoch is raised: a
 * primary that sees the higher epoch alone would take it for its own. Failure `stale-epoch` when the replica holds a higher one.
 */
export async function beginFailover(services: FailoverServices, id: string, epoch: number): Promise<void> {
  const replica = replicaOf(services, id);
  const now = replica.status().epoch;
  if (now > epoch) throw new Failure('stale-epoch', `the replica holds epoch ${now} already`);
  move(services, id, 'failover-begun', { epoch });
  await replica.raiseEpoch(epoch);
}

/**
 * Failure `stale-epoch` when the old primary has raised the epoch since: it has taken a planned failover back, and holds that
 * epoch. To be asked in the same breath in which the role is taken.
 */
export function requireEpoch(services: FailoverServices, id: string, epoch: number): void {
  const now = replicaOf(services, id).status().epoch;
  if (now !== epoch) throw new Failure('stale-epoch', `the primary has raised the epoch to ${now} meanwhile`);
}
