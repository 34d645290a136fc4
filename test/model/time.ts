/**
 * Time in the explored world, as far as leases need it: it goes on from one moment at which a lease ends to the next. A VM whose lease is
 * over stops, by its daemon or by the guard, before a failover elsewhere may count on it: that much of real time is taken for granted.
 */
import { GUARD_AFTER_MS, GUARD_PAUSE_MS, heldUntil, surelyOver } from '../../src/model/lease.ts';
import { HOSTS, LEASE_SECONDS, type HostName, type HostWorld, type World } from './world.ts';

/** Whether a VM runs whose lease is over. */
export function isOverdue({ clock, hosts }: World, host: HostName): boolean {
  const { lease, vm } = hosts[host];
  return vm?.state === 'running' && lease !== null && heldUntil(lease, lease.seconds) <= clock;
}

/** Whether a host could grant nothing later than it has: to ask it again changes nothing. */
export function isFresh({ clock, hosts }: World, host: HostName): boolean {
  const { record, memory } = hosts[host];
  return record?.role === 'primary' || memory.granted === surelyOver(clock, LEASE_SECONDS);
}

/** When something ends next; undefined when nothing does, or when a VM has to stop first. */
export function nextMoment(world: World): number | undefined {
  if (HOSTS.some((host) => isOverdue(world, host))) return undefined;
  const ends = HOSTS.flatMap((host) => endsOf(world.hosts[host])).filter((end) => end > world.clock);
  return ends.length === 0 ? undefined : Math.min(...ends);
}

function endsOf({ lease, memory, record }: HostWorld): number[] {
  const held = lease === null ? [] : [heldUntil(lease, lease.seconds)];
  const granted = memory.granted ?? surelyOver(memory.since, LEASE_SECONDS);
  return record?.role === 'replica' ? [...held, granted] : held;
}

/** Counts from now on; what is over is over, however long. */
export function rebase(world: World): void {
  const { clock } = world;
  for (const here of HOSTS.map((host) => world.hosts[host])) {
    const { lease, memory, record, vm } = here;
    if (lease !== null) lease.sentAt = Math.max(lease.sentAt - clock, -1000 * LEASE_SECONDS);
    // What its daemon would do next, and nobody would see.
    if (lease?.sentAt === -1000 * LEASE_SECONDS && vm?.state !== 'running') here.lease = null;
    if (memory.granted !== null) memory.granted = Math.max(0, memory.granted - clock);
    memory.since = Math.max(memory.since - clock, -surelyOver(0, LEASE_SECONDS));
    // Not asked for as long as there is something later, nor on a primary: who becomes the replica grants anew.
    if (memory.granted !== null) memory.since = 0;
    if (record?.role === 'primary') [memory.granted, memory.since] = [0, 0];
  }
  world.clock = 0;
}

/** What the guard needs is part of what a failover waits for. */
if (surelyOver(0, LEASE_SECONDS) < 1000 * LEASE_SECONDS + GUARD_AFTER_MS + GUARD_PAUSE_MS)
  throw new Error('no time to stop');
