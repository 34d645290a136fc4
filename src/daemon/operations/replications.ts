import { randomBytes, randomUUID } from 'node:crypto';
import type { Operations, Result } from '../../api/contract.ts';
import { asFailure, Failure } from '../../model/failure.ts';
import { needOf, type ResyncNeed } from '../../model/auto-resync.ts';
import { tooOld } from '../../model/versions.ts';
import { encryptedTargets } from '../../failover/encrypted.ts';
import { keepLease, renewLease } from '../../failover/lease.ts';
import type { Position } from '../../model/relationship.ts';
import { diskEncrypted } from '../../hypervisor/hypervisor.ts';
import { NOTHING_YET, type RelationshipRecord, type Store } from '../../store/store.ts';
import { move, recordOf, update } from '../../failover/services.ts';
import { examineForEnabling } from '../doctor/doctor.ts';
import { endReplication } from '../end-replication.ts';
import { bytesOfDisks, chosenDisks } from '../chosen-disks.ts';
import { dropWish } from '../raw-disks.ts';
import { untracked } from '../untracked.ts';
import { findPrimary, findRelationship, requireIdle } from '../relationships.ts';
import { rescan } from '../rescan.ts';
import { markSeed } from '../seeds.ts';
import type { DaemonServices } from '../services.ts';
import { replicationView, type PeerAnswer } from '../views.ts';
import { toldOf } from '../../primary/definition.ts';
import { prepareOf } from '../../primary/prepare-of.ts';

type ReplicationOperations = Pick<
  Operations,
  | 'replicationList'
  | 'replicationShow'
  | 'replicationEnable'
  | 'replicationSet'
  | 'replicationSuspend'
  | 'replicationResume'
  | 'replicationResync'
  | 'replicationCancelResync'
  | 'replicationRemove'
  | 'replicaRescan'
  | 'replicaSeed'
>;

/** How long `show` waits for the other side's word, ms. */
const PEER_PATIENCE_MS = 2000;

/** A relationship as the API shows it, without asking the other side. */
export async function viewOf(
  services: DaemonServices,
  id: string,
  answer?: PeerAnswer,
): Promise<Result<'replicationShow'>> {
  const record = findRelationship(services, id);
  const state = await services.hypervisor.vmStatus(record.vmId).then(
    (vm) => vm.state,
    () => null, // libvirt can't say: shown as unknown
  );
  return replicationView(services, record, state, answer);
}

export function replicationOperations(services: DaemonServices): ReplicationOperations {
  const { store, hypervisor, primaries, actions } = services;
  const asPrimary = (ref: string): RelationshipRecord => findPrimary(services, ref);
  const idle = (record: RelationshipRecord): RelationshipRecord => requireIdle(services, record);

  return {
    replicationList: () => Promise.all(store.relationships().map(({ id }) => viewOf(services, id))),

    replicationShow: async ({ ref }) => {
      const record = findRelationship(services, ref);
      return await viewOf(services, record.id, await askPeer(record));
    },

    replicationEnable: async (request) => {
      const vm = await hypervisor.getVm(request.vm);
      const present = store.relationships().find(({ vmId }) => vmId === vm.id);
      if (present !== undefined) {
        throw new Failure('already-exists', `${vm.name} has a replication relationship with ${present.peer} already`);
      }
      const versions = await hypervisor.versions();
      const old = tooOld(versions);
      if (old !== undefined) throw new Failure('unsupported-version', old);
      const endpoint = services.peer(request.peer);
      const unknown = request.excludeDisks.find((target) => !vm.disks.some((disk) => disk.target === target));
      if (unknown !== undefined) throw new Failure('not-found', `${vm.name} has no disk ${unknown} to leave out`);
      const chosen = vm.disks.filter(({ target }) => !request.excludeDisks.includes(target));
      if (chosen.length === 0) throw new Failure('bad-request', `${vm.name} has no disk left to replicate`);
      const encrypted = encryptedTargets(vm, chosen);
      if (encrypted.length > 0 && !request.replicaPlaintext) throw diskEncrypted(vm.name, encrypted);
      const refused = chosen.find(({ unsupported }) => unsupported !== undefined);
      if (refused !== undefined) throw untracked(vm.name, refused, versions);
      const disks = chosen.map(({ target, size, path }) => ({ target, size, path }));
      const remarks = await examineForEnabling(services, vm.id);
      const { vm: _vm, peer: _peer, excludeDisks: _excludeDisks, useSeed, ...settings } = request;
      const { id, start } = enabling(store, vm.id, request.peer);
      const definition = await hypervisor.exportDefinition(vm.id);
      const record: RelationshipRecord = {
        id,
        vmId: vm.id,
        vmName: vm.name,
        peer: request.peer,
        role: 'primary',
        ...(useSeed
          ? { state: 'WaitingForStartResynchronize', resync: seeded(request.peer) }
          : { state: 'ReadyForInitialReplication' }),
        epoch: start.epoch,
        ...settings,
        disks,
        leftOut: vm.disks.map(({ target }) => target).filter((target) => request.excludeDisks.includes(target)),
        definition,
        definitionTold: await toldOf(hypervisor, { definition, epoch: start.epoch }),
        autostart: vm.autostart,
        position: start,
        ...NOTHING_YET,
        created: services.now(),
      };
      // To be replicated, it isn't to be given back any more.
      for (const { target } of disks) dropWish(services, { vmId: vm.id, target });
      // Remembered first: whatever the peer makes of it, there is something here to remove it by.
      store.putRelationship(record);
      try {
        await endpoint.prepare({
          ...prepareOf(record),
          base: useSeed ? 'compare' : 'empty',
          start,
        });
        if (settings.leaseSeconds > 0) await takeLease(record);
        // From now on the daemon decides about the start after a boot: it asks first who holds the role.
        if (vm.autostart) await hypervisor.setAutostart(vm.id, false);
      } catch (error) {
        // The peer may have made the replica all the same.
        await actions.finish('remove-replication', record.id, { keepDisks: false, tellPeer: true });
        throw error;
      }
      store.setSetting(enablingKey(vm.id, request.peer), '');
      services.event(
        record.id,
        'info',
        'enabled',
        `replication of ${vm.name} to ${request.peer} every ${settings.intervalSeconds} s`,
      );
      if (encrypted.length > 0) {
        const text = `disk ${encrypted.join(', ')} of ${vm.name} is encrypted: its replica on ${request.peer} is plain text, as allowed`;
        services.event(record.id, 'warning', 'replica-plaintext', text);
      }
      for (const { subject, found, cure } of remarks)
        services.event(record.id, 'warning', 'doctor', `${subject}: ${found}. ${cure}`);
      if (vm.besidesDisks.length > 0) {
        const what = vm.besidesDisks.join(', ');
        services.event(
          record.id,
          'warning',
          'stays-here',
          `${what}: this stays here and isn't replicated with ${vm.name}`,
        );
      }
      primaries.start(record.id);
      return await viewOf(services, record.id);
    },

    replicationSet: async ({ ref, leaseSeconds, includeDisks = [], excludeDisks = [], ...settings }) => {
      const before = idle(asPrimary(ref));
      const { id, peer } = before;
      const choice = { includeDisks, excludeDisks };
      const vm = includeDisks.length + excludeDisks.length > 0 ? await hypervisor.getVm(before.vmId) : undefined;
      const versions = vm === undefined ? {} : await hypervisor.versions();
      const { replicaPlaintext = false } = { ...before, ...given(settings) };
      const chosen = () =>
        vm === undefined ? {} : chosenDisks({ ...recordOf(services, id), replicaPlaintext }, vm, choice, versions);
      // Refused before anything is changed.
      const { wanted = [] } = chosen();
      if (vm !== undefined && wanted.length > 0) {
        const needs = await bytesOfDisks(vm, wanted);
        await services.peer(peer).prepare({ ...prepareOf(before), base: 'continue', needs });
      }
      for (const target of includeDisks) dropWish(services, { vmId: before.vmId, target });
      if (leaseSeconds !== undefined) await setLease(before, leaseSeconds);
      const record = update(services, id, { ...given(settings), ...chosen() });
      if ((record.replicaPlaintext ?? false) !== (before.replicaPlaintext ?? false)) {
        notePlaintext(record);
        // What is in the outbox is plain text, too.
        if (record.replicaPlaintext !== true) await primaries.retire(id);
        primaries.start(id);
      }
      await services.peer(peer).prepare({ ...prepareOf(record), base: 'continue' });
      primaries.loop(id).replication.definitionDue = 0; // whoever changes settings may have changed that, too
      primaries.loop(id).wake();
      return await viewOf(services, id);
    },

    replicationSuspend: async ({ ref }) => {
      const { id, vmName, role } = idle(findRelationship(services, ref));
      if (role === 'replica') await services.replicas.find(id)?.setSuspended(true);
      update(services, id, { suspended: true });
      if (role === 'primary') await primaries.stop(id);
      const what = role === 'primary' ? 'nothing is sent' : 'this host takes no logs';
      services.event(
        id,
        'warning',
        'suspended',
        `replication of ${vmName} is paused: ${what} until it is resumed here`,
      );
      return await viewOf(services, id);
    },

    replicationResume: async ({ ref }) => {
      const { id, vmName, role, peer, failure } = idle(findRelationship(services, ref));
      if (role === 'replica') await services.replicas.find(id)?.setSuspended(false);
      const yielded = failure?.code === 'yielded' ? { failure: null } : {};
      update(services, id, { suspended: false, yieldUntil: 0, ...yielded });
      services.event(id, 'info', 'resumed', `replication of ${vmName} goes on`);
      primaries.start(id);
      if (role === 'primary') primaries.loop(id).wake();
      // A primary that is asked looks again at once; one that can't be does so within two of its intervals.
      else await askPeer({ id, peer });
      return await viewOf(services, id);
    },

    replicationResync: async ({ ref }) => {
      const record = idle(asPrimary(ref));
      if (record.state === 'SteppedDown' || record.state.startsWith('FailedOver')) {
        throw new Failure('wrong-state', `${record.vmName} is in state ${record.state}`);
      }
      await primaries.stop(record.id);
      const reason = needOf(record)?.reason ?? 'somebody asked for it';
      await forgetChanges(record, { reason, begin: 'at-once' });
      update(services, record.id, { suspended: false });
      services.event(record.id, 'info', 'resync', `both sides are compared, as asked for: ${reason}`);
      primaries.start(record.id);
      return await viewOf(services, record.id);
    },

    replicationCancelResync: async ({ ref }) => {
      const record = idle(asPrimary(ref));
      if (needOf(record) === undefined) {
        throw new Failure(
          'wrong-state',
          `no comparison of ${record.vmName} is due or under way: it is ${record.state}`,
        );
      }
      await primaries.stop(record.id);
      await forgetChanges(record, { reason: needOf(record)!.reason, begin: 'by-hand' });
      services.event(
        record.id,
        'warning',
        'resync-cancelled',
        `the comparison of ${record.vmName} is given up, as asked for`,
      );
      primaries.start(record.id);
      return await viewOf(services, record.id);
    },

    replicationRemove: async ({ ref, keepDisks }) =>
      await endReplication(services, findRelationship(services, ref), { keepDisks }),

    replicaRescan: () => rescan(services),

    replicaSeed: async ({ vm, peer = null }) => {
      const { id, name } = await markSeed(services, vm, peer);
      return { id, name, peer };
    },
  };

  /** What has changed is to be found by comparing, from the beginning. The loop doesn't run. */
  async function forgetChanges({ id, vmId }: RelationshipRecord, resync: ResyncNeed): Promise<void> {
    const { bitmap, copy } = recordOf(services, id);
    move(services, id, 'resync-wanted', { resync, bitmap: null, copy: null, failure: null });
    for (const name of [bitmap, copy?.since ?? null]) if (name !== null) await hypervisor.dropBitmap(vmId, name);
  }

  /** Failure `busy` when the peer grants none just now. */
  async function takeLease(record: RelationshipRecord): Promise<void> {
    const { granted } = await renewLease(services, record);
    if (!granted) throw new Failure('busy', `${record.peer} is not ready to be the Replica server: it grants no lease`);
  }

  /**
   * The first lease is held before the VM is bound to one, so that it doesn't stop for a moment. Without one the VM goes on at
   * once, also when the peer can't be told: that is what it is turned off for.
   */
  async function setLease(record: RelationshipRecord, leaseSeconds: number): Promise<void> {
    const { leaseSeconds: now = 0 } = record;
    if (now === 0 && leaseSeconds > 0) await takeLease({ ...record, leaseSeconds });
    update(services, record.id, { leaseSeconds });
    await keepLease(services, record.id);
    if (now === leaseSeconds) return;
    const text =
      leaseSeconds === 0
        ? `${record.vmName} runs without a lease: without contact it goes on`
        : `${record.vmName} runs on a lease: without an answer of ${record.peer} for ${leaseSeconds} s it stops`;
    services.event(record.id, 'warning', 'lease-set', text);
  }

  function notePlaintext({ id, vmName, peer, replicaPlaintext = false }: RelationshipRecord): void {
    const text = replicaPlaintext
      ? `encrypted disks of ${vmName} may be replicated to ${peer} from now on, as plain text`
      : `encrypted disks of ${vmName} are not replicated to ${peer} any more; what is there already stays`;
    services.event(id, 'warning', 'replica-plaintext', text);
  }

  async function askPeer(record: Pick<RelationshipRecord, 'id' | 'peer'>): Promise<PeerAnswer> {
    const checkedAt = services.now();
    const late = new Promise<undefined>((resolve) => setTimeout(resolve, PEER_PATIENCE_MS, undefined).unref());
    const status = services.peer(record.peer).status(record.id);
    const answer = await Promise.race([status, late]).catch((error: unknown) => {
      services.log.debug({ err: asFailure(error), peer: record.peer }, 'the peer could not be asked');
      return undefined;
    });
    status.catch(() => undefined); // when it is late, nobody waits for it any more
    return { checkedAt, status: answer };
  }
}

type Settings = Pick<
  RelationshipRecord,
  | 'intervalSeconds'
  | 'history'
  | 'thin'
  | 'readBytesPerSecond'
  | 'readIops'
  | 'autoResync'
  | 'definitionPolicy'
  | 'replicaPlaintext'
>;

const seeded = (peer: string): ResyncNeed => ({
  reason: `${peer} begins with disks that it had already`,
  begin: 'at-once',
});

/** Those of the settings that were given; the others stay. */
function given(settings: { readonly [K in keyof Settings]?: Settings[K] | undefined }): Partial<Settings> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

/**
 * What a relationship that is about to begin is called. Until it has begun, each try has the same name: a replica that the peer made
 * although nobody here heard of it is found by the next one.
 */
function enabling(store: Store, vmId: string, peer: string): { readonly id: string; readonly start: Position } {
  const known = store.setting(enablingKey(vmId, peer)) ?? '';
  const [id = randomUUID(), state = randomBytes(16).toString('hex')] = known.split(' ').filter(Boolean);
  store.setSetting(enablingKey(vmId, peer), `${id} ${state}`);
  return { id, start: { epoch: 1, sequence: 0, state } };
}

function enablingKey(vmId: string, peer: string): string {
  return `enabling ${vmId} ${peer}`;
}
