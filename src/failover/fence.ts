/** How a replica keeps the old primary out, before it becomes the primary itself; and how the old primary gives way. */
import { Failure } from '../model/failure.ts';
import { defineLocked } from './definition.ts';
import { alone } from './lease.ts';
import { move, recordOf, replicaOf, type FailoverServices } from './services.ts';

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

/**
 * Remembers that the role is lost, pauses a running VM, locks its definition. Idempotent; remembered first, so that a daemon that
 * dies in the middle does the rest when it starts, and resumes what it has paused when the role comes back.
 */
export async function stepDown(services: FailoverServices, id: string): Promise<void> {
  await alone(services, id, () => giveWay(services, id));
}

async function giveWay(services: FailoverServices, id: string): Promise<void> {
  const record = recordOf(services, id);
  const wasKnown = record.state === 'SteppedDown';
  const vm = await services.hypervisor.vmStatus(record.vmId);
  const wasRunning = vm.state === 'running';
  // A log in flight stays known: the other side may have received it, and the failover may be cancelled.
  move(services, id, 'role-lost');
  if (wasRunning) await services.hypervisor.suspend(record.vmId);
  // Whoever resumes it by hand has a copy that speaks to nobody.
  await services.hypervisor.setNetwork(record.vmId, 'disconnected');
  await defineLocked(services, record);
  if (wasKnown && !wasRunning) return;
  const text = wasRunning
    ? `${record.peer} has taken over while ${record.vmName} ran here: it is paused, its disks are kept`
    : `${record.peer} has taken over: ${record.vmName} can't be started here any more, its disks are kept`;
  services.event(id, wasRunning ? 'critical' : 'warning', 'stepped-down', text);
}
