/**
 * The lease of a primary (`fence: lease`): with it a VM runs only as long as its Replica server has lately answered, and a failover
 * without contact starts it only when that is surely over. Pure decisions and their margins; SPEC.md tells why two never run.
 *
 * All times are ms of the boot clock of the host that they are of; nothing is compared between hosts but lengths.
 */
import type { ReplicationState, Role } from './relationship.ts';
import { judgePeer, runsHere, type RoleClaim } from './role.ts';

/** Shortest and longest lease, s. It is renewed every 2 s (`daemon/lease-keeper.ts`), 4.5 s when the peer is slow, but there. */
export const LEASE_SECONDS = { min: 10, max: 3600 } as const;
/** How much faster the clock of the one host may go than the other's: 20 times what clocks are slewed by (500 ppm). */
const DRIFT = 0.01;
/** Once its lease is over, the daemon looks so often, ms. */
export const LOOK_EVERY_MS = 500;
/** So long after its lease is over, the guard (`daemon/lease-guard.worker.ts`) stops a VM that its daemon hasn't stopped, ms. */
export const GUARD_AFTER_MS = 1500;
/** So long the guard may take to pause the VM before it ends it, ms. */
export const GUARD_PAUSE_MS = 1500;
/** All that it may take from the end of a lease until the VM stands still, ms. */
const STOPPING_MS = 5000;

/** What a primary was granted. */
export interface Lease {
  /** When the request was sent that was answered: before the answer, so that the lease ends here before it does there. */
  readonly sentAt: number;
  readonly seconds: number;
}

/**
 * When the VM must stand still. The shorter of what was granted and what is set: whoever shortens it is bound at once,
 * whoever lengthens it only by the next answer.
 */
export function heldUntil(lease: Lease, setSeconds: number): number {
  return lease.sentAt + 1000 * Math.min(lease.seconds, setSeconds);
}

/** When a lease that was granted at `grantedAt`, or at some time before, is surely over, by the clock of the host that granted it. */
export function surelyOver(grantedAt: number, seconds: number): number {
  return grantedAt + 1000 * seconds * (1 + DRIFT) + STOPPING_MS;
}

/**
 * Whether the VM of a relationship may run here with a lease only. After an unplanned failover it may without: nobody follows it
 * yet that could take it over.
 */
export function needsLease(own: {
  role: Role;
  state: ReplicationState;
  epoch: number;
  leaseSeconds?: number;
}): boolean {
  return (own.leaseSeconds ?? 0) > 0 && runsHere(own) && !own.state.startsWith('FailedOver');
}

/**
 * Whether an answer of the peer is a lease. A replica that isn't failing over grants it; so does a primary whose role is over:
 * before it can take the role back, it has to become our replica, which counts as granting one.
 * @param peer its claim, with the seconds that it has noted; undefined in an answer of a version that knows no leases.
 */
export function isGranted(own: RoleClaim, peer: RoleClaim & { leaseSeconds?: number }, seconds: number): boolean {
  if (peer.leaseSeconds !== seconds) return false;
  if (peer.role === 'primary') return peer.epoch < own.epoch;
  return judgePeer(own, peer) !== 'wait';
}
