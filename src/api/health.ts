/** Health: a verdict on a relationship, with its reasons. The rules are Hyper-V Replica's, scaled to any interval. */
import { SKEW_LIMIT_MS } from '../model/lag.ts';
import type { FailureJson } from '../model/failure.ts';
import type { ReplicationState, Role } from '../model/relationship.ts';

export type Health = 'normal' | 'warning' | 'critical';

export interface HealthFacts {
  readonly role: Role;
  readonly state: ReplicationState;
  readonly suspended: boolean;
  readonly failure: FailureJson | null;
  readonly intervalSeconds: number;
  /** ms; null before the first recovery point. */
  readonly lagMs: number | null;
  readonly cycles: number;
  readonly missedCycles: number;
  readonly stoppedByLease?: boolean;
  /** The peer's clock minus this host's, ms; null or left out: not known. */
  readonly skewMs?: number | null;
  /** Disks of the VM that were added since replication was enabled. */
  readonly unprotected?: readonly string[];
  /** Why both sides have to be compared. */
  readonly resyncReason?: string;
  /** Known to differ between both sides, or to be damaged on the replica's disks, bytes. */
  readonly unrepairedBytes?: number;
  /** Recovery points that aren't whole. */
  readonly damagedPoints?: number;
}

/** Lag up to this many intervals is a late cycle, not a warning. */
const LATE_INTERVALS = 3;
/** Whatever the interval, lag up to this many ms is no warning. */
const LATE_AT_LEAST_MS = 30_000;
/** Lag over an hour (and over `LATE_INTERVALS` × 4 intervals) is critical; Hyper-V Replica warns there. */
const CRITICAL_LAG_MS = 3_600_000;
/** More than a fifth of the cycles missed is a warning, once there are enough of them to say so. */
const MISSED_SHARE = 0.2;
const ENOUGH_CYCLES = 10;

const CRITICAL_STATES: Partial<Record<ReplicationState, string>> = {
  Error: 'replication has stopped',
  WaitingForStartResynchronize: 'both sides have to be compared before replication goes on',
  SteppedDown: 'a failover took the role from this host',
};

const WARNING_STATES: Partial<Record<ReplicationState, string>> = {
  ReadyForInitialReplication: 'the initial copy has not begun',
  InitialReplicationInProgress: 'the initial copy is not complete',
  CatchingUp: 'more is to be sent than fits one cycle',
  PreparedForFailover: 'prepared for failover',
  RecoveryInProgress: 'a failover is under way',
  FailedOverWaitingCompletion: 'failed over; neither completed nor reversed',
  FailedOver: 'failed over; replication is not reversed',
  Resynchronizing: 'both sides are being compared',
};

/** Judges a relationship. Reasons of the worst level come first; `normal` has none. */
export function judgeHealth(facts: HealthFacts): { health: Health; reasons: string[] } {
  const critical: string[] = [];
  const warning: string[] = [];

  const stateIsCritical = CRITICAL_STATES[facts.state];
  const because = facts.resyncReason === undefined ? '' : `: ${facts.resyncReason}`;
  if (stateIsCritical !== undefined) critical.push(`${stateIsCritical}${because}`);
  if (facts.stoppedByLease === true)
    critical.push('the VM is stopped: the Replica server does not answer, its lease is over');
  const stateWarns = WARNING_STATES[facts.state];
  if (stateWarns !== undefined) warning.push(`${stateWarns}${because}`);
  if (facts.suspended || facts.state === 'Suspended') {
    (facts.role === 'replica' ? critical : warning).push('replication is paused by an administrator of this host');
  }
  if (facts.failure !== null) (facts.failure.retry === 'never' ? critical : warning).push(facts.failure.message);

  for (const target of facts.unprotected ?? []) warning.push(`disk ${target} was added and is not replicated`);

  const { unrepairedBytes = 0, damagedPoints = 0 } = facts;
  if (unrepairedBytes > 0) {
    const what = facts.role === 'primary' ? 'differ at the replica' : 'of the disks are damaged';
    warning.push(`${Math.ceil(unrepairedBytes / 1024)} KiB ${what}; they are sent again`);
  }
  if (damagedPoints > 0) warning.push(`${damagedPoints} recovery points are not whole`);

  const intervalMs = facts.intervalSeconds * 1000;
  if (facts.lagMs !== null && facts.lagMs > Math.max(LATE_INTERVALS * intervalMs, LATE_AT_LEAST_MS)) {
    const isCritical = facts.lagMs > Math.max(LATE_INTERVALS * 4 * intervalMs, CRITICAL_LAG_MS);
    (isCritical ? critical : warning).push(
      `the last recovery point is ${Math.round(facts.lagMs / 1000)} s old at an interval of ${facts.intervalSeconds} s`,
    );
  }
  const due = facts.cycles + facts.missedCycles;
  if (due >= ENOUGH_CYCLES && facts.missedCycles > due * MISSED_SHARE) {
    warning.push(`${facts.missedCycles} of ${due} cycles were missed`);
  }

  const skewMs = facts.skewMs ?? 0;
  if (Math.abs(skewMs) > SKEW_LIMIT_MS) {
    warning.push(`the clocks of both hosts are ${Math.round(Math.abs(skewMs) / 1000)} s apart`);
  }

  const health = critical.length > 0 ? 'critical' : warning.length > 0 ? 'warning' : 'normal';
  return { health, reasons: [...critical, ...warning] };
}
