/** Looks at this host, its peers and its VMs, and judges what it sees. */
import { asFailure, Failure } from '../../model/failure.ts';
import { presentDisks } from '../../model/shape.ts';
import type { Peer } from '../../security/peer.ts';
import type { RelationshipRecord } from '../../store/store.ts';
import type { DaemonServices } from '../services.ts';
import { ok, warning, type Finding } from './finding.ts';
import { lookAtConfinement, lookAtMachine, userText } from './look-machine.ts';
import { lookAtPeer } from './look-peer.ts';
import { lookAtPlace } from './look-places.ts';
import { judgeConfinement, judgeMachine, judgeVersions } from './machine.ts';
import { judgePeer } from './peer.ts';
import { judgePlace, obstacleTo, type Purpose } from './places.ts';
import { judgeMissingVm, judgeVm } from './vm.ts';

const PURPOSES: readonly Purpose[] = ['state', 'outbox', 'points', 'replicas', 'run'];

export interface Asked {
  /** Name or id of a VM; undefined: those that are replicated from here. */
  readonly vm?: string | undefined;
  /** Name of a paired host; undefined: those of the VMs, or all. */
  readonly peer?: string | undefined;
}

/** Changes nothing. Failure `not-found` for a VM or peer that isn't there. */
export async function examine(services: DaemonServices, asked: Asked): Promise<Finding[]> {
  const peers = peersOf(services, asked);
  const [host, others, vms] = await Promise.all([
    examineHost(services),
    Promise.all(
      peers.map(async (peer) => judgePeer(await lookAtPeer(peer, () => services.endpoints.hello(peer.name)))),
    ),
    examineVms(services, asked),
  ]);
  const alone = peers.length > 0 ? [] : [NO_PEER];
  return [...host, ...alone, ...others.flat(), ...vms.flat()];
}

const NO_PEER = warning(
  'peers',
  'this host is paired with no other: nothing can be replicated',
  'Pair the two hosts: `understudy peer token` on one, `understudy peer join` on the other.',
);

async function examineHost({ config, hypervisor, store, log }: DaemonServices): Promise<Finding[]> {
  // Who it is, is asked of a hypervisor that may be down: that is a finding of its own then.
  const user = await hypervisor.vmUser().catch(() => undefined);
  const places = await Promise.all(PURPOSES.map((purpose) => lookAtPlace(purpose, { config, user, log })));
  const machine = await lookAtMachine(hypervisor, user, config.pointDirectory, log);
  const needs = {
    vmUser: machine.vmUser,
    keepsReplicas: store.relationships().some(({ role }) => role === 'replica'),
    replicaReserve: config.replica.reserve,
  };
  const ofMachine = config.hypervisor === 'libvirt' ? judgeMachine(machine) : [judgeVersions(machine.versions)];
  return [...ofMachine, ...places.flatMap((place) => judgePlace(place, needs))];
}

function peersOf({ peers, store }: DaemonServices, { vm, peer }: Asked): readonly Peer[] {
  if (peer !== undefined) {
    const known = peers.get(peer);
    if (known === undefined) throw new Failure('not-found', `${peer} is not a paired host`);
    return [known];
  }
  const names = new Set(
    store
      .relationships()
      .filter((record) => isOf(record, vm))
      .map((record) => record.peer),
  );
  const all = peers.list();
  return vm === undefined || names.size === 0 ? all : all.filter(({ name }) => names.has(name));
}

async function examineVms({ hypervisor, store }: DaemonServices, { vm: ref, peer }: Asked): Promise<Finding[][]> {
  const records = store.relationships();
  const primaries = records.filter(({ role }) => role === 'primary');
  const chosen =
    ref !== undefined
      ? [ref]
      : primaries.filter((record) => (peer ?? record.peer) === record.peer).map(({ vmId }) => vmId);
  return await Promise.all(
    [...new Set(chosen)].map(async (one) => {
      const record = primaries.find((each) => isOf(each, one));
      const replica = records.find((each) => each.role === 'replica' && isOf(each, one));
      if (record === undefined && replica !== undefined) return [isReplica(replica)];
      try {
        const vm = await hypervisor.getVm(one);
        const inspection = await hypervisor.inspect(vm.id).catch((error: unknown) => asFailure(error).toJSON());
        const replicated = record && {
          disks: presentDisks(record.disks).map(({ target }) => target),
          leftOut: record.leftOut ?? [],
          plaintext: record.replicaPlaintext ?? false,
        };
        const versions = await hypervisor.versions();
        return judgeVm({ vm, inspection, versions, ...(replicated === undefined ? {} : { replicated }) });
      } catch (error) {
        const failure = asFailure(error);
        if (failure.code === 'not-found' && record === undefined) throw failure;
        return [judgeMissingVm(record?.vmName ?? one, failure.toJSON())];
      }
    }),
  );
}

function isReplica({ vmName, peer }: RelationshipRecord): Finding {
  return ok(`VM ${vmName}`, `its replica is kept here: what its disks are like is seen on ${peer}`);
}

function isOf({ vmId, vmName }: RelationshipRecord, ref: string | undefined): boolean {
  return ref === undefined || vmName === ref || vmId === ref.toLowerCase();
}

/**
 * Before replication of a VM is enabled. Failures `no-access`, `bad-config` where no point in time of it can ever be opened; what may
 * stand in the way is given.
 */
export async function examineForEnabling(
  { config, hypervisor, log }: Pick<DaemonServices, 'config' | 'hypervisor' | 'log'>,
  vmId: string,
): Promise<Finding[]> {
  if (config.hypervisor !== 'libvirt') return [];
  const inspection = await hypervisor.inspect(vmId).catch(() => undefined);
  const user = inspection?.user ?? (await hypervisor.vmUser());
  const points = await lookAtPlace('points', { config, user, log });
  const vmUser = await userText(user);
  const obstacle = obstacleTo(points, vmUser);
  // Of a VM that is off it isn't known whom it will run as.
  if (obstacle !== undefined && inspection?.user !== undefined) throw obstacle;
  const confinement = judgeConfinement(await lookAtConfinement(config.pointDirectory));
  const needs = { vmUser, keepsReplicas: false, replicaReserve: undefined };
  return [...confinement, ...judgePlace(points, needs)].filter(({ severity }) => severity !== 'ok');
}
