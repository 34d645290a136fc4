/**
 * What the replica engine asks of its host, and what a peer may see of this host: its own relationships only.
 */
import { removeBitmapsFromDisks } from '../failover/bitmaps.ts';
import { defineLocked } from '../failover/definition.ts';
import { stepDown } from '../failover/fence.ts';
import { grantLease } from '../failover/lease.ts';
import { move, recordOf, update } from '../failover/services.ts';
import { isStarting, mayStart } from '../failover/starting.ts';
import { checkTakeOver } from '../failover/take-over.ts';
import { encryptedTargets, noReplicaIn } from '../failover/encrypted.ts';
import { Failure } from '../model/failure.ts';
import { presentDisks } from '../model/shape.ts';
import type { PrepareReplica, ReplicaEndpoint, ReplicaStatus } from '../protocol/endpoint.ts';
import { imageInfo } from '../qemu/image.ts';
import { LocalEndpoint, type ReplicaHost } from '../replica/endpoint.ts';
import { rememberPeer } from '../replica/record.ts';
import { NOTHING_YET, type RelationshipRecord } from '../store/store.ts';
import { requireDecided } from './end-replication.ts';
import { lagFrom } from './lag.ts';
import { forgetSeed, giveSeed, seedFor } from './seeds.ts';
import type { DaemonServices } from './services.ts';

/** Most things that are told to be lacking. */
const MAX_LACKING = 64;

/** The endpoint that a peer talks to. */
export function endpointFor(services: DaemonServices, peer: string): ReplicaEndpoint {
  const local = new LocalEndpoint(services.replicas, replicaHost(services, peer), () =>
    rememberPeer(services.store, peer),
  );
  /** Another peer's relationship doesn't exist as far as this one can tell. */
  const own = (id: string): RelationshipRecord => {
    const record = services.store.relationship(id);
    if (record === undefined || record.peer !== peer) {
      throw new Failure('not-found', `no relationship ${id} with ${peer} on this host`);
    }
    return record;
  };
  /** What takes the replica on, while its administrator hasn't paused that. */
  const following = (id: string): string => {
    const { role, suspended, vmName } = own(id);
    if (role !== 'replica' || !suspended) return id;
    throw new Failure(
      'suspended',
      `replication of ${vmName} is paused on ${services.config.name}, by an administrator of that host`,
    );
  };
  const answer: ReplicaEndpoint = {
    prepare: async (request) => {
      const record = services.store.relationship(request.id);
      if (record === undefined) await refuseStranger(services, peer, request);
      else if (isHalfAdopted(services, own(request.id), request)) await becomeReplica(services, record, request);
      return await local.prepare(request);
    },
    status: async (id) => {
      const record = own(id);
      if (record.role === 'replica') {
        const status = await local.status(id);
        const lacking = (services.lacking.get(id) ?? []).slice(0, MAX_LACKING).map((one) => one.slice(0, 1024));
        return {
          ...status,
          ...(record.suspended ? { suspended: true } : {}),
          ...(lacking.length > 0 ? { lacking } : {}),
        };
      }
      // Its Replica server asks when it goes on after a pause.
      if (record.failure?.code === 'suspended') services.primaries.loop(id).wake();
      const plan = services.actions.journal.holder(id);
      const starting = isStarting(services, id) || (plan !== undefined && mayStart(plan));
      const running = starting || (await vmRunning(services, record.vmId));
      const encrypted = await encryptedDisks(services, record);
      return { ...primaryStatus(record), vmRunning: running, ...(encrypted.length > 0 ? { encrypted } : {}) };
    },
    durableOffset: async (id, log) => await local.durableOffset(following(id), log),
    put: async (id, log, offset, body, signal) => {
      const status = await local.put(following(id), log, offset, body, signal);
      noteReplicating(services, id);
      return status;
    },
    confirm: async (id, position, instant) => {
      const status = await local.confirm(following(id), position, instant);
      noteReplicating(services, id);
      return status;
    },
    digests: async (id, question) => await local.digests(following(id), question),
    pageDigests: async (id, question, signal) => await local.pageDigests(following(id), question, signal),
    verify: async (id, question, signal) => await local.verify(following(id), question, signal),
    takeOver: async (id, request) => await local.takeOver(own(id).id, request),
    lease: async (id, seconds) => {
      // Noted before it is said how things stand: a failover that begins meanwhile finds it, and waits.
      if (own(id).role === 'replica') grantLease(services, id, seconds);
      return { ...(await answer.status(id)), leaseSeconds: seconds };
    },
    remove: async (id, options) => await local.remove(own(id).id, options),
  };
  return answer;
}

/** A copy is complete once a point that it made is in the disks: regular replication has begun. */
function noteReplicating(services: DaemonServices, id: string): void {
  const record = recordOf(services, id);
  lagFrom(services, record);
  const { state } = record;
  if (state !== 'InitialReplicationInProgress' && state !== 'Resynchronizing') return;
  const { latest } = services.replicas.get(id).record;
  if (latest !== null && latest.kind !== 'found') move(services, id, 'point-made');
}

/** A try before this one was cut between the disks, which are a replica already, and the role, which isn't given up yet. */
function isHalfAdopted(services: DaemonServices, record: RelationshipRecord, request: PrepareReplica): boolean {
  const { role, state, epoch } = record;
  if (role !== 'primary' || state !== 'SteppedDown' || request.base !== 'compare' || request.epoch < epoch)
    return false;
  const replica = services.replicas.find(request.id);
  return replica !== undefined && !replica.frozen;
}

/** A VM of that id or name that isn't ours must not be replaced by a Replica VM. */
async function refuseStranger(services: DaemonServices, peer: string, request: PrepareReplica): Promise<void> {
  if (request.base === 'compare' && (await seedFor(services, peer, request)) !== undefined) return;
  const taken = (await services.hypervisor.listVms()).find(
    ({ id, name }) => id === request.vmId || name === request.vmName,
  );
  if (taken === undefined) return;
  throw new Failure('already-exists', `${services.config.name} has a VM ${taken.name} (${taken.id}) already`, {
    hint: 'Remove or rename that VM on the Replica server first; or let its disks be used: there `understudy replica seed VM --peer HOST`, here `--use-seed`.',
  });
}

function primaryStatus(record: RelationshipRecord): ReplicaStatus {
  const { id, role, state, epoch, position } = record;
  return { id, role, state, epoch, received: position, applied: position, vmRunning: false };
}

/**
 * Those of a primary's disks that can't become a replica's. Looked at where replication of such a disk was allowed, or was refused, and
 * where replication may be about to be reversed.
 */
async function encryptedDisks({ hypervisor }: DaemonServices, record: RelationshipRecord): Promise<string[]> {
  const { replicaPlaintext = false, failure, state } = record;
  if (!replicaPlaintext && failure?.code !== 'disk-encrypted' && state !== 'SteppedDown') return [];
  return encryptedTargets(await hypervisor.getVm(record.vmId), record.disks);
}

async function vmRunning(services: DaemonServices, vmId: string): Promise<boolean> {
  return (await services.hypervisor.vmStatus(vmId)).state === 'running';
}

function replicaHost(services: DaemonServices, peer: string): ReplicaHost {
  const { store, hypervisor } = services;
  return {
    primaryStatus: (id) => {
      const record = store.relationship(id);
      return record?.role === 'primary' ? primaryStatus(record) : undefined;
    },

    // The other side failed over and wants this host's disks: whatever still runs here has lost its role.
    adoptDisks: async (request) => {
      const { id } = request;
      const record = store.relationship(id);
      if (record === undefined) {
        const seed = await seedFor(services, peer, request);
        return seed === undefined ? undefined : await giveSeed(services, seed, request);
      }
      await services.primaries.retire(id);
      if (record.state !== 'SteppedDown') await stepDown(services, id);
      await hypervisor.closePoint(record.vmId);
      await hypervisor.destroy(record.vmId);
      const disks = await asTheyAre(record);
      await removeBitmapsFromDisks(record);
      return { disks, instant: services.now() };
    },

    prepared: async (replica, request) => {
      const before = store.relationship(request.id);
      if (before === undefined) await rememberNew(services, peer, request, replica.disks);
      else if (before.role === 'primary') await becomeReplica(services, { ...before, disks: replica.disks }, request);
      else if (request.base === 'compare') move(services, request.id, 'made-replica', settingsOf(request));
      else update(services, request.id, settingsOf(request));
      // Whoever may fail over from now on counts as having granted what it is told of.
      grantLease(services, request.id, request.leaseSeconds ?? 0);
    },

    takeOver: async (id, request) => {
      const { planId } = request;
      // Asked again because the answer got lost: it is the same plan.
      const known = services.actions.journal.plan(planId);
      const args = known === undefined ? checkTakeOver(services, id, request) : {};
      await services.actions.finish('take-over', id, args, planId);
      const record = recordOf(services, id);
      return { ...primaryStatus(record), vmRunning: await vmRunning(services, record.vmId) };
    },

    removed: async (id, { keepDisks }) => {
      requireDecided(recordOf(services, id));
      // Asked again because the answer got lost: it is the same plan.
      const holder = services.actions.journal.holder(id);
      const planId = holder?.kind === 'remove-replication' ? holder.id : undefined;
      await services.actions.finish('remove-replication', id, { keepDisks, tellPeer: false }, planId);
    },

    stateOf: (id) => recordOf(services, id).state,
    vmRunning: (id) => vmRunning(services, recordOf(services, id).vmId),
  };
}

/** Somebody may have resized them since the last cycle looked; they become what the new primary's are by its logs. */
async function asTheyAre({ vmName, disks }: RelationshipRecord): Promise<RelationshipRecord['disks']> {
  return await Promise.all(
    presentDisks(disks).map(async (disk) => {
      const { size, encrypted } = await imageInfo(disk.path, { format: 'qcow2' });
      if (encrypted === true) throw noReplicaIn(vmName, [disk.target]);
      return { ...disk, size };
    }),
  );
}

function settingsOf(request: PrepareReplica) {
  const { epoch, intervalSeconds, history, thin = [], autostart, leaseSeconds, autoResync, definitionPolicy } = request;
  return {
    epoch,
    intervalSeconds,
    history,
    thin,
    ...(autostart === undefined ? {} : { autostart }),
    ...(leaseSeconds === undefined ? {} : { leaseSeconds }),
    ...(autoResync === undefined ? {} : { autoResync }),
    ...(definitionPolicy === undefined ? {} : { definitionPolicy }),
  };
}

async function rememberNew(
  services: DaemonServices,
  peer: string,
  request: PrepareReplica,
  disks: RelationshipRecord['disks'],
): Promise<void> {
  const { id, vmId, vmName, definition } = request;
  const targets = disks.map(({ target }) => target);
  const { networks } = services.config;
  const here = await services.hypervisor.adaptDefinition({ definition, own: definition, targets, networks });
  const vm = { id, vmId, vmName, definition: here, disks };
  // Disks that aren't replicated aren't there; the definition that is kept is the one without them.
  await defineLocked(services, vm, 'remove');
  services.store.putRelationship({
    ...vm,
    definition: await services.hypervisor.exportDefinition(vmId),
    peer,
    role: 'replica',
    state: request.base === 'compare' ? 'Resynchronizing' : 'InitialReplicationInProgress',
    autostart: false,
    leaseSeconds: 0,
    definitionTaken: { definition, epoch: request.epoch, time: services.now() },
    ...settingsOf(request),
    position: request.start!,
    ...NOTHING_YET,
    created: services.now(),
  });
  forgetSeed(services, vmId);
  services.event(id, 'info', 'replica-created', `this host is the Replica server of ${vmName} on ${peer}`);
}

/** A former primary: its disks, those that the new primary has, hold what that will compare with; its VM is locked. */
async function becomeReplica(
  services: DaemonServices,
  record: RelationshipRecord,
  request: PrepareReplica,
): Promise<void> {
  await defineLocked(services, record);
  move(services, record.id, 'made-replica', {
    ...settingsOf(request),
    disks: record.disks,
    position: request.start ?? record.position,
    bitmap: null,
    copy: null,
    inFlight: null,
    wanted: [],
    joining: [],
    suspended: false,
    failure: null,
    protectedUntil: null,
  });
  services.event(record.id, 'info', 'became-replica', `this host is the Replica server of ${record.vmName} now`);
}
