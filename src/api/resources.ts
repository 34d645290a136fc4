/** What the API shows: resources, as schemas. Times are ms since the epoch, sizes bytes, unless a name says otherwise. */
import * as z from 'zod';
import { CATALOGUE, type FailureCode } from '../model/failure.ts';
import type { RecoveryPoint, ReplicationState } from '../model/relationship.ts';

/** Keys of a table as a non-empty tuple, for `z.enum`. */
function keys<K extends string>(table: Record<K, unknown>): [K, ...K[]] {
  return Object.keys(table) as [K, ...K[]];
}

/** What each state means to an administrator. */
export const STATES: Record<ReplicationState, string> = {
  ReadyForInitialReplication: 'enabled; the initial copy has not begun',
  InitialReplicationInProgress: 'the whole disks are being copied; no recovery point yet',
  Replicating: 'changes go to the replica at each interval',
  CatchingUp: 'more is to be sent than fits one cycle; it is sent in slices, older recovery points stay usable',
  PreparedForFailover: 'the VM is off and its last change is at the replica: planned failover goes on there',
  RecoveryInProgress: 'a failover is under way',
  FailedOverWaitingCompletion: 'runs on the replica after a failover that can still be cancelled',
  FailedOver: 'the failover is complete; replication goes on once it is reversed',
  Suspended: 'paused by an administrator, here or on the Replica server; changes are recorded, not sent',
  Error: 'replication has stopped; somebody has to act',
  WaitingForStartResynchronize: 'both sides have to be compared before replication goes on',
  Resynchronizing: 'both sides are being compared; only what differs is sent',
  ResynchronizeSuspended: 'a comparison is paused by an administrator; it goes on where it was',
  SteppedDown: 'a failover at the other side took the role from this host; its disks are kept',
};

const time = z.number().describe('ms since the epoch');
const bytes = z.number().describe('bytes');

export const FailureView = z
  .object({
    code: z.enum(keys<FailureCode>(CATALOGUE)).describe('stable; docs/rest.md lists them'),
    message: z.string().describe('what is wrong, naming the thing'),
    hint: z.string().describe('what to do about it'),
    retry: z
      .enum(['backoff', 'space', 'never'])
      .describe(
        'backoff: may heal by itself, try later; space: heals when somebody makes room; never: somebody has to act',
      ),
  })
  .meta({ id: 'Failure', description: 'Every error of the API and of replication itself.' });

export const DaemonView = z
  .object({
    name: z.string().describe('name of this host among its peers'),
    version: z.string(),
    address: z.string().describe('host:port that peers are told'),
    caFingerprint: z.string().describe("SHA-256 of this host's CA certificate, lower-case hex"),
    startedAt: time,
    now: time.describe("this host's clock: ms since the epoch"),
    libvirt: z.object({
      reachable: z.boolean(),
      failure: FailureView.nullable(),
      versions: z.record(z.string(), z.string()).describe('of libvirt and QEMU; empty while it is not reachable'),
      remark: z.string().nullable().describe('when they are older or newer than what is supported and tried'),
    }),
    space: z
      .array(
        z.object({
          purpose: z.enum(['state', 'replicas', 'outbox', 'points']),
          path: z.string(),
          freeBytes: bytes,
          totalBytes: bytes,
        }),
      )
      .describe('file systems that the daemon writes to'),
  })
  .meta({ id: 'Daemon', description: 'The daemon of this host.' });

export const PeerView = z
  .object({
    name: z.string(),
    address: z.string().describe('host:port where its daemon listens'),
    caFingerprint: z.string().describe('SHA-256 of its CA certificate, lower-case hex'),
    replications: z.number().int().describe('relationships with it on this host'),
  })
  .meta({ id: 'Peer', description: 'A host that this one is paired with.' });

export const PeerCheckView = z
  .object({
    name: z.string(),
    reachable: z.boolean(),
    version: z.string().nullable(),
    roundTripMs: z.number().nullable(),
    skewMs: z.number().nullable().describe("the peer's clock minus this host's, in ms, half a round trip exact"),
    failure: FailureView.nullable().describe('why it is not reachable'),
  })
  .meta({ id: 'PeerCheck', description: 'What a peer answered just now.' });

export const TokenView = z
  .object({
    token: z.string().describe('give it to `understudy peer join` on the other host; it works once'),
    expiresAt: time,
  })
  .meta({ id: 'Token', description: 'A one-time enrolment token.' });

export const role = z.enum(['primary', 'replica']).describe('what this host is in the relationship');
const state = z.enum(keys(STATES)).describe("as this host sees it; Hyper-V Replica's names");
const vmState = z.enum(['running', 'paused', 'off']);

export const VmView = z
  .object({
    id: z.string().describe('UUID: the identity of the VM on every host'),
    name: z.string(),
    state: vmState,
    autostart: z.boolean(),
    disks: z.array(
      z.object({
        target: z.string().describe('device name in the VM: vda'),
        path: z.string(),
        format: z.string(),
        size: bytes.describe('virtual size in bytes'),
        unsupported: z.string().nullable().describe('why this disk cannot be replicated; null where it can'),
      }),
    ),
    besidesDisks: z
      .array(z.string())
      .describe('what belongs to it and is in no disk of it: it does not travel with them'),
    replicable: z.boolean(),
    reason: z.string().nullable().describe('why it is not replicable, or not without leaving disks out'),
    replications: z.array(z.object({ id: z.string(), role, peer: z.string(), state })),
  })
  .meta({ id: 'Vm', description: 'A VM of this host, as libvirt knows it.' });

const position = z.object({
  epoch: z.number().int().describe('raised by every failover'),
  sequence: z.number().int().describe('number of the last log'),
  state: z.string().describe('digest chained over the logs that led here, 32 hex digits'),
});

export const StatisticsView = z
  .object({
    cycles: z.number().int(),
    idleCycles: z.number().int().describe('cycles in which nothing had changed'),
    missedCycles: z.number().int().describe('fell due while the one before was still under way'),
    failedCycles: z.number().int(),
    changedBytes: bytes,
    unchangedBytes: bytes.describe('written again by the guest with what was there before, and therefore not sent'),
    sentBytes: bytes,
    resentBytes: bytes.describe('bytes sent again after an interruption'),
    savedBytes: bytes.describe(
      'bytes that were captured and not sent: pages of changed clusters that the replica had already',
    ),
    linkSpeed: z
      .number()
      .nullable()
      .describe('bytes per second at which logs got to the replica lately; null: not known'),
    lastChangedBytes: bytes,
    lastSentBytes: bytes,
    lastJobMs: z.number().describe('ms that the last point in time was held open'),
    maxJobMs: z.number(),
    lastCycleMs: z.number(),
  })
  .meta({ id: 'Statistics', description: 'Counters since the relationship began.' });

const passUnderWay = z
  .object({
    began: time,
    bytesDone: bytes,
    bytesTotal: bytes,
    asked: z.boolean().describe('somebody asked for it: it does not wait for its time'),
  })
  .nullable();

export const VerificationView = z
  .object({
    equalAt: time
      .nullable()
      .describe(
        'both sides stood at the same place of the chain of logs then; null: not yet, or something is known to differ',
      ),
    pass: passUnderWay.describe('the comparison that is under way'),
    last: z
      .object({
        began: time,
        ended: time,
        leftOutBytes: bytes.describe('were being changed when it was their turn, and not compared'),
      })
      .nullable()
      .describe('the last comparison of all that there is'),
    nextDue: time.nullable().describe('of the next comparison; null: when asked for'),
    different: z.int().describe('blocks of 64 KiB that were found different, ever'),
    repaired: z.int().describe('of these, found the same again after they were sent anew'),
    unrepairedBytes: bytes.describe('known to differ now'),
  })
  .meta({ id: 'Verification', description: 'What is proven about both sides holding the same.' });

export const ScrubView = z
  .object({
    pass: passUnderWay,
    last: z.object({ began: time, ended: time }).nullable(),
    nextDue: time.nullable().describe('of the next pass; null: when asked for'),
    found: z.int().describe('pieces of damage, ever'),
    unrepairedBytes: bytes.describe('of the disks, known to be damaged now'),
    damagedPoints: z.int().describe('recovery points that are not whole'),
  })
  .meta({ id: 'Scrub', description: 'What a Replica server found when it read all that lies there at rest.' });

export const ReplicationView = z
  .object({
    id: z.string(),
    vmId: z.string(),
    vmName: z.string(),
    vmState: vmState.nullable().describe('of the VM on this host; null when libvirt cannot say'),
    role,
    peer: z.string(),
    state,
    health: z.enum(['normal', 'warning', 'critical']),
    healthReasons: z.array(z.string()).describe('why it is not normal'),
    suspended: z
      .boolean()
      .describe('paused by an administrator of this host; who is paused by the other side has the failure `suspended`'),
    yieldUntil: time
      .nullable()
      .describe("until then the VM's domain is left to other programs, as asked for; null: it isn't"),
    failure: FailureView.nullable().describe('what stands in the way now'),
    epoch: z.number().int(),
    intervalSeconds: z.number().int(),
    history: z.number().int().describe('recovery points kept besides the latest'),
    thin: z
      .array(z.object({ everySeconds: z.number().int(), count: z.number().int() }))
      .describe('and of older ones the newest of each of so many periods'),
    leaseSeconds: z.number().int().describe('fence: the VM stops without an answer of the peer for so long; 0: never'),
    readBytesPerSecond: bytes.describe(
      'most that is read of the disks a second while this host is the primary; 0: no limit',
    ),
    readIops: z.number().int().describe('the same in reads a second, each of at most 1 MiB; 0: no limit'),
    autoResync: z
      .string()
      .describe(
        'when a comparison that has become necessary begins: always, never, or a window of the day: 18:30-06:00',
      ),
    definitionPolicy: z.enum(['follow', 'keep']).describe("the Replica VM's definition, when the primary's changes"),
    replicaPlaintext: z.boolean().describe('primary: encrypted disks are replicated, too, as plain text'),
    lacking: z.array(z.string()).describe('what the Replica server lacks to run the VM, as far as it is known here'),
    resync: z
      .object({
        reason: z.string().describe('why both sides have to be compared'),
        begin: z
          .enum(['by-policy', 'at-once', 'by-hand'])
          .describe(
            'by-policy: as autoResync says; at-once: somebody asked for it; by-hand: somebody has cancelled it',
          ),
        beginsAt: time
          .nullable()
          .describe('when it begins by itself, in the past where it has begun; null: not before somebody asks for it'),
      })
      .nullable()
      .describe('a comparison that is due or under way'),
    stoppedByLease: z.boolean().describe('the lease is over: the VM is stopped until the Replica server answers'),
    leaseLeftMs: z
      .number()
      .nullable()
      .describe('replica: for so long the VM may still run at the primary: a failover waits; null: no lease'),
    disks: z.array(z.object({ target: z.string(), size: bytes, path: z.string() })),
    position: position.describe('primary: last acknowledged; replica: last applied'),
    protectedUntil: time
      .nullable()
      .describe("the primary's clock: everything the guest had done by then is at the replica; null: nothing yet"),
    lagMs: z
      .number()
      .nullable()
      .describe('what a disaster now would lose, whatever is done to the clocks: by those that nobody sets'),
    clockSkewMs: z.number().nullable().describe("the peer's clock minus this host's, ms; null: not measured yet"),
    pendingBytes: bytes.nullable().describe('changed and not yet in a log; null when not known'),
    inFlight: z
      .object({
        sequence: z.number().int(),
        instant: time.describe("the log's instant: ms since the epoch"),
        totalBytes: bytes.nullable().describe('size of the log; null while it is still being read'),
        sentBytes: bytes,
      })
      .nullable()
      .describe('the log that is begun and not yet acknowledged'),
    copy: z
      .object({
        mode: z.enum(['empty', 'compare', 'changed']),
        bytesDone: bytes,
        bytesTotal: bytes,
        blocksCompared: z.number().int().describe('blocks of 64 KiB compared by digest'),
        blocksDifferent: z.number().int(),
      })
      .nullable()
      .describe('an initial copy or a comparison that is under way'),
    failover: z
      .object({
        point: z.number().int(),
        instant: time,
        startedAt: time,
      })
      .nullable()
      .describe('a failover that can still be cancelled'),
    testVms: z.array(z.object({ id: z.string(), name: z.string(), point: z.number().int() })),
    peerStatus: z
      .object({
        reachable: z.boolean(),
        checkedAt: time,
        role: role.nullable(),
        state: state.nullable(),
        epoch: z.number().int().nullable(),
        receivedSequence: z.number().int().nullable(),
        appliedSequence: z.number().int().nullable(),
        vmRunning: z.boolean().nullable(),
        suspended: z.boolean().nullable().describe('its administrator has paused replication there'),
      })
      .nullable()
      .describe('the other side, as it was last heard of'),
    verification: VerificationView.nullable().describe('primary: what is proven; null on the Replica server'),
    scrub: ScrubView.nullable().describe('Replica server: what lies at rest; null on the primary'),
    action: z.string().nullable().describe('id of the action under way'),
    statistics: StatisticsView,
    createdAt: time,
  })
  .meta({ id: 'Replication', description: 'A replication relationship of one VM, as this host sees it.' });

/** What kinds of recovery points there are. */
export const POINT_KINDS: Record<RecoveryPoint['kind'], string> = {
  'crash-consistent': 'all disks at one instant, as after a power cut',
  planned: 'the VM was shut down',
  found: 'what the disks of an old primary held when it became the replica',
};

export const PointView = z
  .object({
    sequence: z.number().int().describe('names the point in this relationship'),
    epoch: z.number().int(),
    instant: time.describe("the primary's clock: everything the guest had completed by then is in it"),
    confirmed: time.describe("the primary's clock: until then nothing further had changed"),
    kind: z.enum(keys(POINT_KINDS)),
    latest: z.boolean(),
    damaged: z.string().nullable().describe('why it is not whole; null where nothing is known against it'),
    usable: z.boolean().describe('false: it can not be read any more'),
    undoBytes: bytes.nullable().describe('room that keeping it takes; null for the latest'),
  })
  .meta({ id: 'RecoveryPoint', description: 'A moment to which the VM can be brought back.' });

export const ActionView = z
  .object({
    id: z.string(),
    kind: z.string().describe('stable name: failover-unplanned'),
    replication: z.string().describe('id of the relationship'),
    vmName: z.string(),
    state: z
      .enum(['running', 'undoing', 'done', 'undone'])
      .describe('undoing: a step failed, what was done is being taken back; done and undone are the ends'),
    steps: z.array(
      z.object({
        title: z.string(),
        state: z.enum(['waiting', 'running', 'done', 'failed']),
        startedAt: time.nullable(),
        endedAt: time.nullable(),
        detail: z.string().nullable().describe('how far it is, or what came of it'),
      }),
    ),
    startedAt: time,
    endedAt: time.nullable(),
    result: z
      .object({
        vmId: z.string().optional(),
        vmName: z.string().optional().describe('the VM that was made or started'),
        point: z.number().int().optional().describe('sequence of the recovery point used'),
        instant: time.optional().describe('instant of that point'),
        path: z.string().optional().describe('the file that was written'),
      })
      .nullable()
      .describe('what came of it, once done'),
    failure: FailureView.nullable().describe('why it is or was undone'),
    obstacle: FailureView.nullable().describe('what keeps it waiting now; it goes on by itself'),
  })
  .meta({
    id: 'Action',
    description: 'Something that takes a while, step by step. It survives a restart of the daemon.',
  });

export const EventView = z
  .object({
    id: z.number().int(),
    time,
    severity: z.enum(['info', 'warning', 'critical']),
    relationship: z.string().nullable(),
    kind: z.string().describe('stable name: failover-started'),
    message: z.string(),
  })
  .meta({ id: 'Event', description: 'Something that an administrator may want to know of.' });

export type DaemonView = z.output<typeof DaemonView>;
export type PeerView = z.output<typeof PeerView>;
export type PeerCheckView = z.output<typeof PeerCheckView>;
export type TokenView = z.output<typeof TokenView>;
export type VmView = z.output<typeof VmView>;
export type ReplicationView = z.output<typeof ReplicationView>;
export type VerificationView = z.output<typeof VerificationView>;
export type ScrubView = z.output<typeof ScrubView>;
export type PointView = z.output<typeof PointView>;
export type ActionView = z.output<typeof ActionView>;
export type EventView = z.output<typeof EventView>;
