/**
 * Rebuilds what this host remembers of the VMs it is the Replica server of from the replica directories, which describe
 * themselves: after the state database was lost, or a Replica VM's definition.
 */
import { defineLocked } from '../failover/definition.ts';
import { DEFAULT_DEFINITION_POLICY } from '../model/definition-changes.ts';
import { asFailure, Failure, type FailureJson } from '../model/failure.ts';
import type { ReplicationState } from '../model/relationship.ts';
import type { Replica } from '../replica/replica.ts';
import { NOTHING_YET, type RelationshipRecord } from '../store/store.ts';
import type { DaemonServices } from './services.ts';

export interface Rescanned {
  readonly id: string;
  readonly vmName: string | null;
  readonly peer: string | null;
  readonly outcome: 'unchanged' | 'rebuilt' | 'vm-defined' | 'failed';
  readonly failure: FailureJson | null;
}

/** Looks at every replica directory. What can't be rebuilt is said, and doesn't keep the others from it. */
export async function rescan(services: DaemonServices): Promise<Rescanned[]> {
  await services.replicas.look();
  const out: Rescanned[] = [];
  for (const replica of services.replicas.all()) {
    const { id, vmName, peer } = replica.record;
    const found = { id, vmName, peer: services.store.relationship(id)?.peer ?? peer?.name ?? null };
    try {
      out.push({ ...found, outcome: await restore(services, replica), failure: null });
    } catch (error) {
      out.push({ ...found, outcome: 'failed', failure: asFailure(error).toJSON() });
    }
  }
  for (const [id, failure] of services.replicas.broken) {
    out.push({ id, vmName: null, peer: null, outcome: 'failed', failure: failure.toJSON() });
  }
  return out;
}

/**
 * To be called when a host starts: a replica that is here, but not remembered, means that the state database was lost. What is found
 * again, and what can't be, are events.
 */
export async function rescanIfForgotten(services: DaemonServices): Promise<void> {
  const { store, replicas, log } = services;
  const forgotten = [...replicas.all().map(({ id }) => id), ...replicas.broken.keys()].filter(
    (id) => store.relationship(id) === undefined,
  );
  if (forgotten.length === 0) return;
  log.warn({ replicas: forgotten }, 'replicas are here that the state database does not know: scanning');
  for (const { id, vmName, outcome, failure } of await rescan(services)) {
    if (outcome !== 'failed' || failure === null) continue;
    const text = `the replica of ${vmName ?? id} was forgotten and can't be taken up again: ${failure.message}. ${failure.hint}`;
    services.event(id, 'critical', 'replica-forgotten', text);
  }
}

async function restore(services: DaemonServices, replica: Replica): Promise<Rescanned['outcome']> {
  const { id, vmId } = replica.record;
  if (services.actions.journal.holder(id) !== undefined) return 'unchanged'; // the action knows what it does
  const record = services.store.relationship(id);
  if (record === undefined) {
    await rebuild(services, replica);
    return 'rebuilt';
  }
  const follows = record.role === 'replica' && record.state !== 'RecoveryInProgress';
  if (!follows || (await find(services, vmId)) !== undefined) return 'unchanged';
  await defineLocked(services, record);
  services.event(id, 'warning', 'vm-defined', `the Replica VM ${record.vmName} was gone: it is defined again, locked`);
  return 'vm-defined';
}

async function rebuild(services: DaemonServices, replica: Replica): Promise<void> {
  const { id, vmId, vmName, peer, frozen } = replica.record;
  if (frozen) {
    throw new Failure('wrong-state', `${vmName} had failed over to this host, or was about to`, {
      hint: 'Restore the state database from a backup: only it says which VM runs on which disks.',
    });
  }
  if (peer === null) {
    throw new Failure('not-found', `the replica of ${vmName} does not say whose it is`, {
      hint: 'Enable replication again at the primary, with other disks, or restore the state database.',
    });
  }
  const vm = await find(services, vmId);
  if (vm !== undefined && vm.state !== 'off') {
    throw new Failure('wrong-state', `${vm.name} is ${vm.state} on this host`, {
      hint: 'Shut it down if it is a copy that runs by mistake, and scan again.',
    });
  }
  pair(services, peer);
  // Nobody knows the test failovers any more that ran from them.
  for (const sequence of replica.record.held) await replica.held.release(sequence);
  await defineLocked(services, replica.record, 'remove');
  const definition = await services.hypervisor.exportDefinition(vmId);
  services.store.putRelationship(recordFrom(replica, peer.name, definition, services.now()));
  services.event(id, 'warning', 'replica-rebuilt', `the replica of ${vmName} from ${peer.name} was found again`);
}

/** What the directory says; what only the database knew (statistics, when it began) begins anew. */
export function recordFrom(replica: Replica, peer: string, definition: string, created: number): RelationshipRecord {
  const { id, vmId, vmName, epoch, suspended } = replica.record;
  const { intervalSeconds, history, thin, leaseSeconds, autoResync, definitionPolicy, applied } = replica.record;
  return {
    id,
    vmId,
    vmName,
    peer,
    role: 'replica',
    state: stateOf(replica),
    epoch,
    intervalSeconds,
    history,
    thin,
    leaseSeconds,
    autoResync,
    ...(definitionPolicy === DEFAULT_DEFINITION_POLICY ? {} : { definitionPolicy }),
    disks: replica.disks,
    definition,
    autostart: false,
    position: applied,
    ...NOTHING_YET,
    suspended,
    created,
  };
}

function stateOf(replica: Replica): ReplicationState {
  const { latest } = replica.record;
  if (latest !== null && latest.kind !== 'found') return 'Replicating';
  return replica.points().length > 0 ? 'Resynchronizing' : 'InitialReplicationInProgress';
}

/** The pairing was in the database, too. One that an administrator has made since is the better one. */
function pair(services: DaemonServices, peer: NonNullable<Replica['record']['peer']>): void {
  if (peer.pairing === null || services.store.peer(peer.name) !== undefined) return;
  services.store.putPeer({ name: peer.name, ...peer.pairing });
}

async function find(services: DaemonServices, vmId: string) {
  return (await services.hypervisor.listVms()).find(({ id }) => id === vmId);
}
