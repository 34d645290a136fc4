/**
 * The state machine of a relationship, as one host sees it: which event leads from where to where. It is total: what isn't
 * listed is refused. Pure data; SPEC.md tells the story and the invariants.
 */
import { Failure, type FailureJson } from './failure.ts';
import type { ReplicationState, Role } from './relationship.ts';

/** Role and state together: `primary/Replicating`. */
export type Situation = `${Role}/${ReplicationState}`;

export const EVENTS = [
  /** Primary: the initial copy has begun. */
  'copy-begun',
  /** Primary: a comparison of both sides is wanted. */
  'resync-wanted',
  /** Primary: a comparison has begun. */
  'compare-begun',
  /** Primary: more is to be sent than one log may hold: more has changed, or a disk has come. */
  'fell-behind',
  /** Primary: a cycle was acknowledged. Replica: a recovery point of this primary is in the disks. */
  'point-made',
  /** Replica: a person's failover, or a take-over, has fenced the old primary. */
  'failover-begun',
  /** Replica: it was taken back before the role had moved. */
  'failover-undone',
  /** Replica: the VM is about to run here, and it can still be cancelled. */
  'failed-over',
  /** Failed over: cancelled; this host is the Replica server again. */
  'failover-cancelled',
  /** Failed over: final. */
  'failover-completed',
  /** Failed over: the other side is to be the Replica server. */
  'reversed',
  /** Primary: VM off and locked, its last change at the replica. */
  'prepared',
  /** Primary: a planned failover was taken back. */
  'preparation-undone',
  /** Primary: the other side has taken over; this host is the Replica server. */
  'handed-over',
  /** Replica: took over in a planned failover. */
  'taken-over',
  /** The VM could not be started here: the role goes back, the failover is being undone. */
  'role-returned',
  /** Primary: learnt that the other side holds a higher epoch. */
  'role-lost',
  /** Stepped down: the other side has cancelled its failover. */
  'role-regained',
  /** The other side is the primary and wants this host's disks as they are, to compare. */
  'made-replica',
] as const;
export type StateEvent = (typeof EVENTS)[number];

type Row = Partial<Record<StateEvent, Situation>>;

/** What a primary that replicates may meet in any of its states. */
const REPLICATING: Row = {
  'resync-wanted': 'primary/WaitingForStartResynchronize',
  'compare-begun': 'primary/Resynchronizing',
  'point-made': 'primary/Replicating',
  'fell-behind': 'primary/CatchingUp',
  'role-lost': 'primary/SteppedDown',
};

const REPLICA: Row = {
  'point-made': 'replica/Replicating',
  'failover-begun': 'replica/RecoveryInProgress',
  'made-replica': 'replica/Resynchronizing',
};

const ROWS: Partial<Record<Situation, Row>> = {
  'primary/ReadyForInitialReplication': {
    'copy-begun': 'primary/InitialReplicationInProgress',
    'compare-begun': 'primary/Resynchronizing',
    'resync-wanted': 'primary/WaitingForStartResynchronize',
    'role-lost': 'primary/SteppedDown',
  },
  'primary/InitialReplicationInProgress': {
    ...REPLICATING,
    'copy-begun': 'primary/InitialReplicationInProgress',
    'fell-behind': 'primary/InitialReplicationInProgress',
  },
  'primary/Replicating': {
    ...REPLICATING,
    prepared: 'primary/PreparedForFailover',
    'preparation-undone': 'primary/Replicating',
    'role-regained': 'primary/Replicating',
    'taken-over': 'primary/Replicating',
    'role-returned': 'replica/RecoveryInProgress',
  },
  'primary/CatchingUp': REPLICATING,
  'primary/WaitingForStartResynchronize': { ...REPLICATING, reversed: 'primary/WaitingForStartResynchronize' },
  'primary/Resynchronizing': { ...REPLICATING, 'fell-behind': 'primary/Resynchronizing' },
  'primary/PreparedForFailover': {
    prepared: 'primary/PreparedForFailover',
    'preparation-undone': 'primary/Replicating',
    'handed-over': 'replica/Replicating',
    'role-lost': 'primary/SteppedDown',
  },
  'primary/FailedOverWaitingCompletion': {
    'failed-over': 'primary/FailedOverWaitingCompletion',
    'role-returned': 'replica/RecoveryInProgress',
    'failover-cancelled': 'replica/Replicating',
    'failover-completed': 'primary/FailedOver',
    'role-lost': 'primary/SteppedDown',
  },
  'primary/FailedOver': {
    'failover-completed': 'primary/FailedOver',
    reversed: 'primary/WaitingForStartResynchronize',
    'role-lost': 'primary/SteppedDown',
  },
  'primary/SteppedDown': {
    'role-lost': 'primary/SteppedDown',
    'role-regained': 'primary/Replicating',
    'made-replica': 'replica/Resynchronizing',
  },
  'replica/InitialReplicationInProgress': { ...REPLICA, 'failover-undone': 'replica/InitialReplicationInProgress' },
  'replica/Resynchronizing': { ...REPLICA, 'failover-undone': 'replica/Resynchronizing' },
  'replica/Replicating': {
    ...REPLICA,
    'failover-undone': 'replica/Replicating',
    'failover-cancelled': 'replica/Replicating',
    'handed-over': 'replica/Replicating',
  },
  'replica/RecoveryInProgress': {
    'failover-begun': 'replica/RecoveryInProgress',
    'failover-undone': 'replica/Replicating',
    'failed-over': 'primary/FailedOverWaitingCompletion',
    'taken-over': 'primary/Replicating',
    'role-returned': 'replica/RecoveryInProgress',
  },
};

/** Situations that exist. */
export const SITUATIONS = Object.keys(ROWS) as Situation[];

/** What is shown of a relationship that is suspended, here or by its Replica server: Hyper-V Replica has a name of its own for a comparison. */
export function shownState(record: {
  readonly state: ReplicationState;
  readonly suspended: boolean;
  readonly failure: Pick<FailureJson, 'code'> | null;
}): ReplicationState {
  if (!record.suspended && record.failure?.code !== 'suspended') return record.state;
  const compares = record.state === 'WaitingForStartResynchronize' || record.state === 'Resynchronizing';
  return compares ? 'ResynchronizeSuspended' : 'Suspended';
}

/** Where an event leads; undefined where it is refused. A step that is repeated after a crash finds itself already there. */
export function follow(from: Situation, event: StateEvent): Situation | undefined {
  return ROWS[from]?.[event];
}

/** Role and state after an event. Failure `wrong-state` where it is refused: nothing has changed then. */
export function after(
  record: { readonly role: Role; readonly state: ReplicationState },
  event: StateEvent,
): { role: Role; state: ReplicationState } {
  const next = follow(`${record.role}/${record.state}`, event);
  if (next === undefined) {
    throw new Failure('wrong-state', `"${event}" is not possible for a ${record.role} in state ${record.state}`);
  }
  const [role, state] = next.split('/') as [Role, ReplicationState];
  return { role, state };
}
