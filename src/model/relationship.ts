/** Which side of a replication relationship this host is. */
export type Role = 'primary' | 'replica';

/**
 * State of a relationship as one host sees it. Names are Hyper-V Replica's (PowerShell) where it has one;
 * `SteppedDown` is ours: a former primary that learnt of a failover and gave its role up.
 */
export type ReplicationState =
  | 'ReadyForInitialReplication'
  | 'InitialReplicationInProgress'
  | 'Replicating'
  | 'CatchingUp'
  | 'PreparedForFailover'
  | 'RecoveryInProgress'
  | 'FailedOverWaitingCompletion'
  | 'FailedOver'
  | 'Suspended'
  | 'Error'
  | 'WaitingForStartResynchronize'
  | 'Resynchronizing'
  | 'ResynchronizeSuspended'
  | 'SteppedDown';

/** A replicated disk. */
export interface ReplicatedDisk {
  /** Device name in the VM: `vda`. */
  readonly target: string;
  /** Virtual size in bytes. */
  readonly size: number;
  /** The state hasn't it any more; it keeps its place in the list, and older points have it. */
  readonly gone?: true;
}

/**
 * A place in the history of a relationship. Every delta log names the position that it follows and the one that it
 * makes; a replica takes a log only if it follows its own.
 */
export interface Position {
  /** Raised by every failover: who holds the role. */
  readonly epoch: number;
  /** Number of the last log; grows by one a log, never reused across epochs. */
  readonly sequence: number;
  /** 32 hex digits: digest chained over the logs that led here. Equal states have equal lineage, not the other way round. */
  readonly state: string;
}

export function samePosition(a: Position, b: Position): boolean {
  return a.epoch === b.epoch && a.sequence === b.sequence && a.state === b.state;
}

/** A moment to which the VM can be brought back. */
export interface RecoveryPoint {
  /** Sequence of the log that made it. */
  readonly sequence: number;
  readonly epoch: number;
  /** ms since the epoch, the primary's clock: whatever the guest had completed by then is in it. */
  readonly instant: number;
  /** ms, the primary's clock: the latest instant at which the primary was seen to be still in this very state. */
  readonly confirmed: number;
  /** How it came to be. `found`: what an old primary's disks held when it became the replica. */
  readonly kind: 'crash-consistent' | 'planned' | 'found';
}
