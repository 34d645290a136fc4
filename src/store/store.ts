/**
 * PORT: what a host remembers. Implementations: `sqlite/` (a daemon's) and `memory/` (tests, tools).
 *
 * Everything that is written is durable when the call returns. Values are plain JSON; a reader gets its own copy.
 * Calls are synchronous, as SQLite's are: they take microseconds and a caller can't be interrupted between two of them.
 */
import type { AutoResync, ResyncNeed } from '../model/auto-resync.ts';
import type { DefinitionPolicy } from '../model/definition-changes.ts';
import type { FailureJson } from '../model/failure.ts';
import type { Position, ReplicatedDisk, ReplicationState, Role } from '../model/relationship.ts';
import type { ThinningRule } from '../model/retention.ts';
import type { Verification } from '../model/verification.ts';

/** A replicated disk on this host. */
export interface LocalDisk extends ReplicatedDisk {
  /** Absolute path of the image on this host. */
  readonly path: string;
}

/** Where a copy of whole disks (initial copy, comparison) stands. */
export interface CopyProgress {
  /**
   * `empty`: onto empty disks, zeros are left out. `compare`: only blocks whose digests differ are sent. `changed`: what
   * changed since the bitmap `since`.
   */
  readonly mode: 'empty' | 'compare' | 'changed';
  /** Of `changed`: kept until the copy is closed; null for the others. */
  readonly since: string | null;
  /** Index in the relationship's list of disks, and byte offset in it, of what comes next. */
  readonly disk: number;
  readonly offset: number;
  /** Only that disk is copied, none behind it. */
  readonly alone?: true;
  /** Blocks of 64 KiB compared by digest, and found different, so far. */
  readonly blocksCompared: number;
  readonly blocksDifferent: number;
}

/** A log that has been begun and not yet been acknowledged. */
export interface LogInFlight {
  readonly sequence: number;
  readonly logId: string;
  /** Bitmap that began at the log's instant; null for a slice, which leaves tracking as it is. */
  readonly nextBitmap: string | null;
  /** Progress of the copy once this log is acknowledged. */
  readonly copyAfter: CopyProgress | null;
  /** ms since the epoch: the point's instant. */
  readonly instant: number;
  /** Position that it makes; null until it has been read to its end. */
  readonly makes: Position | null;
}

/** Counters since the relationship began; times in ms, sizes in bytes. */
export interface Statistics {
  readonly cycles: number;
  readonly idleCycles: number;
  readonly missedCycles: number;
  readonly failedCycles: number;
  readonly changedBytes: number;
  /** Written again by the guest with what was there before, and therefore not sent. */
  readonly unchangedBytes: number;
  readonly sentBytes: number;
  readonly resentBytes: number;
  /** By which logs were shorter, when they were sent, than when they were captured (primary/thin.ts). */
  readonly savedBytes: number;
  /** How fast logs got to the replica lately, bytes per second; null: not known. */
  readonly linkSpeed: number | null;
  readonly lastChangedBytes: number;
  readonly lastSentBytes: number;
  readonly lastJobMs: number;
  readonly maxJobMs: number;
  readonly lastCycleMs: number;
}

export const NO_STATISTICS: Statistics = {
  cycles: 0,
  idleCycles: 0,
  missedCycles: 0,
  failedCycles: 0,
  changedBytes: 0,
  unchangedBytes: 0,
  sentBytes: 0,
  resentBytes: 0,
  savedBytes: 0,
  linkSpeed: null,
  lastChangedBytes: 0,
  lastSentBytes: 0,
  lastJobMs: 0,
  maxJobMs: 0,
  lastCycleMs: 0,
};

/** What a record that begins doesn't know yet: nothing is protected, recorded, under way or wrong. */
export const NOTHING_YET = {
  protectedUntil: null,
  bitmap: null,
  copy: null,
  inFlight: null,
  suspended: false,
  failure: null,
  failover: null,
  test: null,
  statistics: NO_STATISTICS,
} as const satisfies Partial<RelationshipRecord>;

/** A failover that can still be cancelled: the VM runs on overlays over the replica's disks. */
export interface FailoverRecord {
  /** Recovery point that it started from. */
  readonly sequence: number;
  /** That point's instant, ms since the epoch, the lost primary's clock. */
  readonly instant: number;
  /** ms since the epoch, this host's clock. */
  readonly started: number;
}

/** A running test failover. */
export interface TestFailoverRecord extends FailoverRecord {
  readonly vmId: string;
  readonly vmName: string;
}

/** What this host knows of one replication relationship, whichever side it is. */
export interface RelationshipRecord {
  readonly id: string;
  readonly vmId: string;
  readonly vmName: string;
  /** Name of the paired host on the other side. */
  readonly peer: string;
  readonly role: Role;
  readonly state: ReplicationState;
  readonly epoch: number;
  readonly intervalSeconds: number;
  readonly history: number;
  /** Which recovery points are kept besides the newest; none if left out. */
  readonly thin?: readonly ThinningRule[];
  /** `fence: lease`: without an answer of its Replica server for so long the primary stops the VM, s; 0 or left out: it doesn't. */
  readonly leaseSeconds?: number;
  /** Primary: how fast this host's disks may be read, bytes and reads a second; 0 or left out: as fast as they are. */
  readonly readBytesPerSecond?: number;
  readonly readIops?: number;
  /** When a comparison that has become necessary begins; `always` if left out. */
  readonly autoResync?: AutoResync;
  /** Primary: see `needOf`. */
  readonly resync?: ResyncNeed;
  /** Primary: until then the VM's domain is left to other programs: no job of ours, ms since the epoch. */
  readonly yieldUntil?: number;
  /** Primary: its lease was over, and the VM is stopped until there is another one. */
  readonly stoppedByLease?: boolean;
  /** Primary: those that are gone, too. */
  readonly disks: readonly LocalDisk[];
  /** Primary: the replica has not acknowledged a log yet since the disks became these. */
  readonly reshaped?: boolean;
  /** Primary: bytes that each disk had at its shortest since the replica has acknowledged a point. */
  readonly shortest?: readonly number[];
  /** Primary: encrypted disks are replicated, too, and stored as plain text: its administrator has said so. Left out: no. */
  readonly replicaPlaintext?: boolean;
  /** Primary: targets of disks that a person left out. */
  readonly leftOut?: readonly string[];
  /** Primary: targets of disks that were added since. */
  readonly unprotected?: readonly string[];
  /** Primary: targets of those that a person wants to be replicated, too, and of which nothing has been begun. */
  readonly wanted?: readonly string[];
  /** Primary: targets of those that are being copied: they are in no recovery point yet. */
  readonly joining?: readonly string[];
  /** Primary: targets of those that a person wants to be in no recovery point from now on, and of which nothing has been begun. */
  readonly leaving?: readonly string[];
  /** The VM's definition, as it is to run (with this host's disks, never locked). */
  readonly definition: string;
  /** Whether the Replica VM's follows the primary's; `follow` if left out. */
  readonly definitionPolicy?: DefinitionPolicy;
  /** Primary: digest of the facts of the definition that the Replica server knows, and the epoch in which it was told. */
  readonly definitionTold?: { readonly digest: string; readonly epoch: number };
  /** Replica: what the primary said last of those that this host has looked at, in which epoch, and when (ms since the epoch). */
  readonly definitionTaken?: {
    readonly definition: string;
    readonly epoch: number;
    readonly time: number;
    /** It is to be taken again: the replica has other disks since. */
    readonly again?: boolean;
  };
  /** The VM was to start with its host; the daemon does that instead of libvirt. */
  readonly autostart: boolean;
  /** Primary: last acknowledged position. Replica: where it stood when the role was taken. */
  readonly position: Position;
  /** Primary: instant (ms) of the last acknowledged or confirmed state; null before the first. */
  readonly protectedUntil: number | null;
  /** Primary: bitmap that covers everything since `position` (or since the running copy began). */
  readonly bitmap: string | null;
  readonly copy: CopyProgress | null;
  readonly inFlight: LogInFlight | null;
  readonly suspended: boolean;
  /** What stands in the way now; null when nothing does. */
  readonly failure: FailureJson | null;
  /** Replica that failed over and may still cancel; else null. */
  readonly failover: FailoverRecord | null;
  readonly test: TestFailoverRecord | null;
  readonly statistics: Statistics;
  /** Primary: what both sides hold is compared; left out: it never was. */
  readonly verification?: Verification;
  /** ms since the epoch. */
  readonly created: number;
}

/** A host that this one is paired with. */
export interface PeerRecord {
  readonly name: string;
  /** `host:port`, where its daemon listens. */
  readonly address: string;
  readonly caCertificate: string;
  /** SHA-256 of the CA certificate, lower-case hex. */
  readonly caFingerprint: string;
}

export type Severity = 'info' | 'warning' | 'critical';

/** Something an administrator may want to know of. */
export interface EventRecord {
  readonly id: number;
  /** ms since the epoch. */
  readonly time: number;
  readonly severity: Severity;
  readonly relationship: string | null;
  /** Stable name: `failover-started`. */
  readonly kind: string;
  readonly message: string;
}

export interface Store {
  relationships(): RelationshipRecord[];
  relationship(id: string): RelationshipRecord | undefined;
  putRelationship(record: RelationshipRecord): void;
  deleteRelationship(id: string): void;

  peers(): PeerRecord[];
  peer(name: string): PeerRecord | undefined;
  putPeer(record: PeerRecord): void;
  deletePeer(name: string): void;

  /** Small named values of the daemon itself; `undefined` when never set. */
  setting(key: string): string | undefined;
  setSetting(key: string, value: string): void;

  addEvent(event: Omit<EventRecord, 'id'>): EventRecord;
  /** Newest first. */
  events(options: { relationship?: string; before?: number; limit: number }): EventRecord[];

  close(): void;
}
