/** Records of ours as the resources of the API. */
import { judgeHealth } from '../api/health.ts';
import type { ActionView, PointView, ReplicationView } from '../api/resources.ts';
import type { VmState } from '../hypervisor/hypervisor.ts';
import { leaseLeftMs } from '../failover/lease.ts';
import { frontier, type Plan } from '../journal/plan.ts';
import { DEFAULT_AUTO_RESYNC, needOf, resyncFrom } from '../model/auto-resync.ts';
import { DEFAULT_DEFINITION_POLICY } from '../model/definition-changes.ts';
import { presentDisks } from '../model/shape.ts';
import { shownState } from '../model/state.ts';
import { bytesDone, bytesOf } from '../model/verification.ts';
import { yieldedUntil } from '../model/yielding.ts';
import type { Replica } from '../replica/replica.ts';
import type { ReplicaStatus } from '../protocol/endpoint.ts';
import type { FailoverRecord, RelationshipRecord } from '../store/store.ts';
import { lagFrom } from './lag.ts';
import { scrubView, verificationView } from './proof-views.ts';
import { replicaFailure } from './replica-failure.ts';
import type { DaemonServices } from './services.ts';

/** What is known of the other side, and when it was asked. */
export interface PeerAnswer {
  readonly checkedAt: number;
  readonly status: ReplicaStatus | undefined;
}

export function replicationView(
  services: DaemonServices,
  record: RelationshipRecord,
  vmState: VmState | null,
  answer: PeerAnswer | undefined,
): ReplicationView {
  const now = services.now();
  const { instant: protectedUntil, lagMs } = lagFrom(services, record) ?? { instant: null, lagMs: null };
  const skewMs = services.peerClocks.skewMs(record.peer);
  const { statistics, copy, inFlight, disks } = record;
  const cycles = statistics.cycles + statistics.idleCycles;
  const failure = record.failure ?? replicaFailure(services, record)?.toJSON() ?? null;
  const need = record.role === 'primary' ? needOf(record) : undefined;
  const verification = record.role === 'primary' ? verificationView(services, record) : null;
  const scrub = record.role === 'replica' ? scrubView(services, record.id) : null;
  const { health, reasons } = judgeHealth({
    ...record,
    failure,
    lagMs,
    cycles,
    missedCycles: statistics.missedCycles,
    skewMs,
    ...(need === undefined ? {} : { resyncReason: need.reason }),
    unrepairedBytes: (verification ?? scrub)?.unrepairedBytes ?? 0,
    damagedPoints: scrub?.damagedPoints ?? 0,
  });
  const activity = record.role === 'primary' ? services.primaries.loop(record.id).replication.activity : undefined;
  const replica = services.replicas.find(record.id)?.status();
  return {
    id: record.id,
    vmId: record.vmId,
    vmName: record.vmName,
    vmState,
    role: record.role,
    peer: record.peer,
    state: shownState(record),
    health,
    healthReasons: reasons,
    suspended: record.suspended,
    yieldUntil: yieldedUntil(record, now) ?? null,
    failure,
    epoch: record.epoch,
    intervalSeconds: record.intervalSeconds,
    history: record.history,
    thin: [...(record.thin ?? [])],
    leaseSeconds: record.leaseSeconds ?? 0,
    readBytesPerSecond: record.readBytesPerSecond ?? 0,
    readIops: record.readIops ?? 0,
    autoResync: record.autoResync ?? DEFAULT_AUTO_RESYNC,
    lacking: [...(services.lacking.get(record.id) ?? [])],
    definitionPolicy: record.definitionPolicy ?? DEFAULT_DEFINITION_POLICY,
    replicaPlaintext: record.replicaPlaintext ?? false,
    resync: need === undefined ? null : { ...need, beginsAt: resyncFrom(record, now) },
    stoppedByLease: record.stoppedByLease ?? false,
    leaseLeftMs: record.role === 'replica' && (record.leaseSeconds ?? 0) > 0 ? leaseLeftMs(services, record) : null,
    disks: presentDisks(disks).map(({ target, size, path }) => ({ target, size, path })),
    position: replica?.applied ?? record.position,
    protectedUntil,
    lagMs,
    clockSkewMs: skewMs,
    pendingBytes: null,
    inFlight:
      inFlight === null || activity === undefined
        ? null
        : {
            sequence: inFlight.sequence,
            instant: inFlight.instant,
            totalBytes: inFlight.makes === null ? null : activity.logBytes,
            sentBytes: activity.send.sent,
          },
    copy:
      copy === null
        ? null
        : {
            mode: copy.mode,
            bytesDone: bytesDone(copy, disks),
            bytesTotal: bytesOf(disks),
            blocksCompared: copy.blocksCompared,
            blocksDifferent: copy.blocksDifferent,
          },
    testVms:
      record.test === null ? [] : [{ id: record.test.vmId, name: record.test.vmName, point: record.test.sequence }],
    failover: record.failover === null ? null : failoverView(record.failover),
    peerStatus: answer === undefined ? null : peerStatusView(answer),
    verification,
    scrub,
    action: services.actions.journal.holder(record.id)?.id ?? null,
    statistics,
    createdAt: record.created,
  };
}

function failoverView({ sequence, instant, started }: FailoverRecord): NonNullable<ReplicationView['failover']> {
  return { point: sequence, instant, startedAt: started };
}

function peerStatusView({ checkedAt, status }: PeerAnswer): NonNullable<ReplicationView['peerStatus']> {
  return {
    reachable: status !== undefined,
    checkedAt,
    role: status?.role ?? null,
    state: status?.state ?? null,
    epoch: status?.epoch ?? null,
    receivedSequence: status?.received.sequence ?? null,
    appliedSequence: status?.applied.sequence ?? null,
    vmRunning: status?.vmRunning ?? null,
    suspended: status === undefined ? null : status.suspended === true,
  };
}

/** Of a replica, newest first. */
export function pointViews(replica: Replica): PointView[] {
  const { unsound } = replica;
  return replica.points().map((point, index) => {
    const { sequence, epoch, instant, confirmed, kind } = point;
    const trouble = unsound.get(sequence);
    const { why: damaged = null, readable: usable = true } = trouble ?? {};
    return { sequence, epoch, instant, confirmed, kind, latest: index === 0, damaged, usable, undoBytes: null };
  });
}

const KINDS = new Set<string>([
  'test-failover-start',
  'test-failover-stop',
  'unplanned-failover',
  'planned-failover',
  'cancel-failover',
  'complete-failover',
  'reverse-replication',
  'export-point',
]);

/** Whether an action is one that a person asked for here; the rest (take-over, remove) are parts of others. */
export function isShown(plan: Plan): boolean {
  return KINDS.has(plan.kind);
}

export function actionView(services: DaemonServices, plan: Plan): ActionView {
  const record = services.store.relationship(plan.relationship);
  const at = frontier(plan);
  const failed = plan.state === 'undone';
  return {
    id: plan.id,
    kind: plan.kind,
    replication: plan.relationship,
    vmName: record?.vmName ?? '',
    state: plan.state,
    steps: plan.steps.map(({ name, done }, index) => ({
      title: name,
      state: done ? 'done' : failed ? 'failed' : index === at && plan.state === 'running' ? 'running' : 'waiting',
      startedAt: null,
      endedAt: null,
      detail: index === at && plan.obstacle !== null ? plan.obstacle.message : null,
    })),
    startedAt: plan.started,
    endedAt: plan.ended,
    result: plan.state === 'done' ? resultOf(record, plan) : null,
    failure: plan.failure,
    obstacle: plan.obstacle,
  };
}

function resultOf(record: RelationshipRecord | undefined, plan: Plan): ActionView['result'] {
  const { file } = plan.args;
  if (typeof file === 'string') return { path: file };
  if (record === undefined) return null;
  if (plan.kind === 'test-failover-start' && record.test !== null) {
    const { vmId, vmName, sequence, instant } = record.test;
    return { vmId, vmName, point: sequence, instant };
  }
  if (plan.kind === 'unplanned-failover' && record.failover !== null) {
    const { sequence, instant } = record.failover;
    return { vmId: record.vmId, vmName: record.vmName, point: sequence, instant };
  }
  return { vmId: record.vmId, vmName: record.vmName };
}
