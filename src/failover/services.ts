/**
 * What the actions of this folder work with. Each action is a plan (`journal/`): steps that may each be repeated, in
 * an order in which a crash anywhere leaves something that a restart can finish or take back, and never two VMs running.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Hypervisor } from '../hypervisor/hypervisor.ts';
import type { Clocks } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';
import { after, type StateEvent } from '../model/state.ts';
import type { Primaries } from '../primary/primaries.ts';
import type { ReplicaEndpoint } from '../protocol/endpoint.ts';
import { ReplicaLayout } from '../replica/layout.ts';
import type { Replica } from '../replica/replica.ts';
import type { Replicas } from '../replica/replicas.ts';
import type { RelationshipRecord, Severity, Store } from '../store/store.ts';
import type { Leases } from './lease.ts';
import type { TestViews } from './test-views.ts';

export interface FailoverServices extends Clocks {
  readonly hypervisor: Hypervisor;
  readonly store: Store;
  readonly replicas: Replicas;
  readonly primaries: Primaries;
  readonly testViews: TestViews;
  readonly peer: (name: string) => ReplicaEndpoint;
  /** Directory of a replica's files, by relationship. */
  readonly replicaDirectory: (id: string) => string;
  /** A path that never exists: see `definition.ts`. */
  readonly lockDirectory: string;
  readonly leases: Leases;
  readonly event: (relationship: string, severity: Severity, kind: string, message: string) => void;
}

export function recordOf(services: FailoverServices, id: string): RelationshipRecord {
  const record = services.store.relationship(id);
  if (record === undefined) throw new Failure('not-found', `replication relationship ${id} is not known here`);
  return record;
}

export function update(
  services: FailoverServices,
  id: string,
  change: Partial<RelationshipRecord>,
): RelationshipRecord {
  const record = { ...recordOf(services, id), ...change };
  services.store.putRelationship(record);
  return record;
}

/** Records an event of the state machine, with what else changes by it. Failure `wrong-state` where it is refused. */
export function move(
  services: FailoverServices,
  id: string,
  event: StateEvent,
  change: Omit<Partial<RelationshipRecord>, 'role' | 'state'> = {},
): RelationshipRecord {
  return update(services, id, { ...change, ...after(recordOf(services, id), event) });
}

export function replicaOf(services: FailoverServices, id: string): Replica {
  return services.replicas.get(id);
}

/** The VM runs on the disks of its record: what the replica has besides goes, and images of other disks, which no point has any more. */
export async function endReplica(services: FailoverServices, { id, disks }: RelationshipRecord): Promise<void> {
  const replica = services.replicas.find(id);
  for (const { target, path } of replica?.record.disks ?? []) {
    const isOwn = path === new ReplicaLayout(replica!.directory).disk(target);
    if (isOwn && !disks.some((disk) => disk.path === path)) await rm(path, { force: true });
  }
  await services.replicas.remove(id, { keepDisks: true });
}

/** Where a failed-over VM writes until its failover is completed. */
export function failoverOverlays(services: FailoverServices, record: RelationshipRecord): Map<string, string> {
  const directory = join(services.replicaDirectory(record.id), 'failover');
  return new Map(record.disks.map(({ target }) => [target, join(directory, `${target}.qcow2`)]));
}
