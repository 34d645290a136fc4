/**
 * PORT: the Replica server, as a primary server sees it.
 *
 * Implementations: `../replica/endpoint.ts` (in this process) and `https/client.ts` (over the network). Tests wrap
 * either to make faults. All calls are idempotent: an answer may get lost, so every one may be asked again. A `signal` ends
 * the waiting for an answer, which may last a minute when the peer says nothing; its reason is thrown then.
 */
import type { Wake } from '../lib/wake.ts';
import type { AutoResync } from '../model/auto-resync.ts';
import type { DefinitionPolicy } from '../model/definition-changes.ts';
import type { ThinningRule } from '../model/retention.ts';
import type { Extent } from '../model/extent.ts';
import type { Position, ReplicatedDisk, ReplicationState, Role } from '../model/relationship.ts';

export interface PrepareReplica {
  readonly id: string;
  readonly vmId: string;
  readonly vmName: string;
  /** The VM's definition as the primary's hypervisor exported it, without secrets. */
  readonly definition: string;
  /** Whether the Replica VM's follows it. Left out: as it was, `follow` at first. */
  readonly definitionPolicy?: DefinitionPolicy;
  readonly disks: readonly ReplicatedDisk[];
  /** Epoch that the primary holds. The replica refuses one lower than its own (`stale-epoch`). */
  readonly epoch: number;
  readonly intervalSeconds: number;
  /** Recovery points to keep besides the latest state, 0..10000. */
  readonly history: number;
  /** Which older ones are kept besides; none if left out. */
  readonly thin?: readonly ThinningRule[];
  /** `fence: lease`, s; 0 for none. Left out: as it was. What binds is what `lease` asks for. */
  readonly leaseSeconds?: number;
  /** When comparisons begin, once that host is the primary. Left out: as it was. */
  readonly autoResync?: AutoResync;
  /** Whether the VM starts with its host: also with this one, once it is the primary. Left out: as it was. */
  readonly autostart?: boolean;
  /**
   * How the first logs will come about.
   * - `empty`: onto new, empty disks (initial copy). Refused with `already-exists` if the replica has data.
   * - `compare`: onto disks that are there already (reverse replication, resynchronization): the primary will ask for
   *   digests and send what differs. A former primary gives its own disks; their state is kept as a `found` point.
   * - `continue`: nothing but the settings change; position and data stay as they are.
   */
  readonly base: 'empty' | 'compare' | 'continue';
  /** For `empty` and `compare`: the position from which the primary will count. */
  readonly start?: Position;
  /** For `continue`: bytes that are about to come besides, for disks that are new; refused with `no-space` where they don't fit. */
  readonly needs?: number;
}

export interface ReplicaStatus {
  readonly id: string;
  readonly role: Role;
  readonly state: ReplicationState;
  readonly epoch: number;
  /** Last log that is whole and durable: acknowledged. */
  readonly received: Position;
  /** Last log whose content is in the disks. */
  readonly applied: Position;
  /** Whether the VM of the relationship runs on the answering host. */
  readonly vmRunning: boolean;
  /** An administrator of that host has paused replication there: it takes no logs (`suspended`). Left out: no. */
  readonly suspended?: boolean;
  /** Bytes that its file system lacks for one more log, since one was refused for that. Left out: none was. */
  readonly missingBytes?: number;
  /** What that host lacks to run the VM, in words. Left out: nothing is known to be lacking. */
  readonly lacking?: readonly string[];
  /** Of a primary: targets of disks that are encrypted there, and so can't become a replica's. Left out: none is known to be. */
  readonly encrypted?: readonly string[];
  /** Of an answer to `lease`: what that host holds to from now on, s. */
  readonly leaseSeconds?: number;
  /** What is known to be damaged on the replica's disks, whole blocks, at most MAX_DAMAGE: to be sent again. */
  readonly damage?: readonly DiskExtent[];
}

/** A run of bytes on one of the disks. */
export interface DiskExtent extends Extent {
  readonly target: string;
}

/** Most runs of damage that a replica tells of at once. */
export const MAX_DAMAGE = 256;

/** Names one delta log: its place and its own id, so that two tries at the same place are never taken for each other. */
export interface LogName {
  readonly sequence: number;
  /** 32 hex digits, random. */
  readonly logId: string;
}

export interface TakeOver {
  /** Names the request, so that asking twice takes over once. */
  readonly planId: string;
  /** The new epoch: one above the relationship's. */
  readonly epoch: number;
  /** The position at which the old primary stopped; refused with `not-following` unless exactly this was received. */
  readonly position: Position;
  readonly start: boolean;
}

/** A log's bytes from where sending goes on, in order. */
export interface LogBody extends AsyncIterable<Uint8Array> {
  /** Where the same bytes can be read: for whoever moves them without the event loop. Then the body isn't iterated. */
  readonly file?: LogFile;
}

/** A log in its file, finished or still growing. */
export interface LogFile {
  readonly path: string;
  /** About how long the whole log will be, bytes. */
  readonly expected: number;
  /** Resolves with how far the file reaches, once that is more than `have`; with null when the log ends there. Throws when it is given up. */
  readonly moreThan: (have: number) => Promise<number | null>;
  /** To be told of bytes that the network has taken. */
  readonly taken: (bytes: number) => void;
}

/** Asks for the digests of whole blocks. */
export interface BlockQuestion {
  readonly target: string;
  /** The first block, and how many. */
  readonly from: number;
  readonly count: number;
  /** Nothing that is kept about the disk is believed: it is read. Left out: what is surely current needn't be. */
  readonly reread?: boolean;
}

/** Asks for the digests of pages (page-digest.ts) as they are in the state that a log follows. */
export interface PageQuestion {
  readonly target: string;
  /** The state that is meant: what the replica has received and applied. */
  readonly position: Position;
  /** 32 hex digits, random for each question. */
  readonly salt: string;
  /** Whole pages, in order and disjoint, at most MAX_RUNS of them with MAX_PAGES; the disk's last page may be short. */
  readonly runs: readonly Extent[];
}

/** Most pages of one question: 512 MiB of disk, 1 MiB of answer. */
export const MAX_PAGES = 131_072;
/** Most runs of one question. */
export const MAX_RUNS = 8192;

/** What the primary has read of its disk at a position: the replica reads its own there, and compares. */
export interface VerifyQuestion {
  readonly target: string;
  /** The state that was read: what the replica has received and applied. */
  readonly position: Position;
  /** The first block. */
  readonly from: number;
  /** DIGEST_BYTES for each of at most MAX_VERIFY blocks; zeros for those that are left out. */
  readonly digests: Uint8Array;
  /** Blocks, counted from `from`, that read otherwise at the primary than what it sent last. */
  readonly changed: readonly number[];
}

/** Most blocks of one such question: 64 MiB of disk. */
export const MAX_VERIFY = 1024;

/**
 * On which side a block isn't any more what was written there, by that side's own digests: `replica`, `primary`, both, or neither
 * knows (`unknown`).
 */
export type ChangedSide = 'replica' | 'primary' | 'both' | 'unknown';

export interface VerifyAnswer {
  /** Blocks that differ, counted from the disk's first. */
  readonly different: readonly { readonly block: number; readonly side: ChangedSide }[];
}

/** Bytes of one block digest. */
export const DIGEST_BYTES = 16;
/** Bytes of disk that one digest stands for. */
export const DIGEST_BLOCK = 64 * 1024;

export interface ReplicaEndpoint {
  /** Creates the replica of a VM, or changes it; see `PrepareReplica.base`. */
  prepare(request: PrepareReplica): Promise<ReplicaStatus>;
  /** Failure `not-found` when that host knows no such relationship. */
  status(id: string, signal?: AbortSignal): Promise<ReplicaStatus>;
  /** Bytes of that log which are durable and verified at the replica: where sending goes on. 0 for an unknown log. */
  durableOffset(id: string, log: LogName, signal?: AbortSignal): Promise<number>;
  /**
   * Sends a log from `offset` (as `durableOffset` gave it) to its end. Resolves when the whole log is verified and
   * durable: that is the acknowledgement. Failures: `interrupted` (ask for the offset, go on there), `bad-log`,
   * `not-following`, `stale-epoch`, `no-space`, `suspended`.
   */
  put(id: string, log: LogName, offset: number, body: LogBody, signal?: AbortSignal): Promise<ReplicaStatus>;
  /** Nothing has changed: at `instant` (ms, primary's clock) the primary was still at `position`. */
  confirm(id: string, position: Position, instant: number, signal?: AbortSignal): Promise<ReplicaStatus>;
  /**
   * Digests of the replica's blocks: BLAKE3, cut to DIGEST_BYTES, of each DIGEST_BLOCK bytes (the disk's last block as
   * short as it is); zeros for what isn't there: beyond its end, or of a disk that may come with the next log. Only while nothing waits
   * to be applied.
   */
  digests(id: string, question: BlockQuestion, signal?: AbortSignal): Promise<Uint8Array>;
  /**
   * PAGE_DIGEST_BYTES for each page of a question, in order, read from the disk. Failures: `not-following` when the replica stands at
   * another position, `busy` while logs wait. Absent where a peer doesn't answer that.
   */
  pageDigests?(id: string, question: PageQuestion, signal?: AbortSignal): Promise<Uint8Array>;
  /**
   * Compares what the primary has read with the replica's own reading of the same state. Failures: as of `pageDigests`. Absent where a
   * peer doesn't answer that.
   */
  verify?(id: string, question: VerifyQuestion, signal?: AbortSignal): Promise<VerifyAnswer>;
  /** Planned failover: the replica becomes the primary. Resolves when it has (and, if asked, runs). */
  takeOver(id: string, request: TakeOver): Promise<ReplicaStatus>;
  /** Ends the relationship at the replica: its VM definition, points and disks go, unless `keepDisks`. */
  remove(id: string, options: { keepDisks: boolean }): Promise<void>;
  /**
   * Asks for a lease of `seconds` (model/lease.ts): a replica that isn't failing over holds back any failover until it is surely over.
   * Whether the answer is one, `isGranted` tells. Absent where there is a replica engine, but no host that could start a VM.
   */
  lease?(id: string, seconds: number, signal?: AbortSignal): Promise<ReplicaStatus>;
  /**
   * Of a host that didn't answer when last asked: called when it does again, a hint to try again at once. Undefined when it
   * answers; absent where there is no way between that could break.
   */
  back?(): Wake | undefined;
}
