/**
 * The world that is explored: two hosts with one relationship, as one plain JSON value. Data is abstract: a disk is two
 * blocks, and a block holds the number of the last write to it. A position's digest carries, beside its identity, what
 * the disks held at that instant, so that any state can be compared with what it claims to be.
 */
import type { LeaseNote } from '../../src/failover/lease-note.ts';
import type { Plan } from '../../src/journal/plan.ts';
import type { RecoveryPoint, Position } from '../../src/model/relationship.ts';
import type { RelationshipRecord } from '../../src/store/store.ts';

export type HostName = 'a' | 'b';
export const HOSTS: readonly HostName[] = ['a', 'b'];
export const other = (name: HostName): HostName => (name === 'a' ? 'b' : 'a');

export const ID = '0e0e0e0e-0000-4000-8000-000000000001';
export const VM_ID = '0e0e0e0e-0000-4000-8000-000000000002';
/** Of a relationship with `fence: lease`. */
export const LEASE_SECONDS = 60;
export const BLOCK = 64 * 1024;

/** What a disk holds, block by block. */
export type Blocks = readonly [number, number];
export const BLOCKS = [0, 1] as const;

export interface Bitmap {
  readonly name: string;
  readonly path: string;
  usable: boolean;
  dirty: [boolean, boolean];
}

export interface VmWorld {
  state: 'running' | 'paused' | 'off';
  /** Path in the persistent definition, and in the running instance. */
  defined: string;
  live: string | null;
  /** An open point: until the daemon closes it, or the VM ends. */
  pointOpen: boolean;
}

export interface WorldLog {
  readonly sequence: number;
  readonly logId: string;
  readonly epoch: number;
  readonly follows: Position;
  readonly makes: Position;
  readonly point: RecoveryPoint | null;
  readonly blocks: readonly (readonly [number, number])[];
}

export interface ReplicaWorld {
  epoch: number;
  start: Position;
  applied: Position;
  appliedLog: string | null;
  latest: RecoveryPoint | null;
  frozen: boolean;
  readonly path: string;
  waiting: WorldLog[];
  /** Older points, newest first, with what they hold. */
  older: { readonly point: RecoveryPoint; readonly blocks: Blocks }[];
}

/** What a primary keeps of what it knows of the replica (`primary/known-blocks.ts`). */
export interface KnownWorld {
  readonly about: {
    readonly boot: string | null;
    readonly epoch: number;
    readonly position: Position;
    readonly next: Position | null;
  };
  /** What the replica has; null: not known. */
  blocks: [number | null, number | null];
  /** The same as it was synced last. */
  synced: [number | null, number | null];
}

/** What a daemon knows only while it runs. */
export interface Memory {
  /** Plans of a former run have had their try, and loops have begun. */
  begun: boolean;
  /** Plans that have been tried since the start. */
  tried: string[];
  loop: 'off' | 'to agree' | 'agreed';
  watching: 'begin' | 'role-lost' | null;
  /** In this activity, whoever watches came to a sleep. */
  asleep: boolean;
  /** The time of waiting for the other side is not over. */
  patient: boolean;
  /** Answers that it got in this activity. */
  answered: number;
  /** As a Replica server: until when what it granted may hold; and when this daemon began. */
  granted: number | null;
  since: number;
}

/** Without what is only shown. */
export type ModelRecord = Omit<RelationshipRecord, 'statistics'>;

export interface HostWorld {
  up: boolean;
  /** How often its daemon died: whoever belongs to an earlier life does nothing any more. */
  boot: number;
  /** The marker in the run directory. */
  started: boolean;
  record: ModelRecord | null;
  plans: Plan[];
  vm: VmWorld | null;
  images: Record<string, Blocks>;
  bitmaps: Bitmap[];
  replica: ReplicaWorld | null;
  outbox: WorldLog | null;
  known: KnownWorld | null;
  /** The note of a lease: outlives the daemon, not the boot. */
  lease: { -readonly [key in keyof LeaseNote]: LeaseNote[key] } | null;
  /** The guard's mark. */
  stopped: boolean;
  memory: Memory;
  /** What the guest that runs or ran here last has written, in sum. */
  truth: Blocks;
  /** Highest epoch of the other side as primary that this daemon was told of. */
  knows: number;
}

/** Faults and commands that may still happen. */
export interface Budget {
  writes: number;
  failovers: number;
  planned: number;
  /** Of a daemon (kill -9), and of a host (power). */
  crashes: number;
  powerLosses: number;
  /** Messages lost, answers lost, late, doubled. */
  messages: number;
  cuts: number;
  /** Calls of libvirt or of the storage that fail. */
  errors: number;
  /** The other host comes in between in the middle of an activity. */
  interruptions: number;
  /** Not used up: 1 for a relationship with `fence: lease`. */
  lease: number;
  /** Not used up: 1 for a primary that keeps what it knows of the replica. Then guests write again what was there before, too. */
  known: number;
  /** Comparisons that a person begins or cancels; with any, none begins by itself. */
  resyncs: number;
}

export interface LateMessage {
  readonly to: HostName;
  readonly method: string;
  readonly args: readonly unknown[];
}

export interface World {
  hosts: Record<HostName, HostWorld>;
  cut: boolean;
  /** Of leases, ms. */
  clock: number;
  late: LateMessage[];
  budget: Budget;
  /** For names that were random. */
  nextName: number;
  nextWrite: number;
  /** Epoch of the last failover that a person began without contact, or with force. */
  licensed: number;
}

/** Content that a position's digest doesn't tell: in the middle of a copy, or named by somebody who didn't read the disks. */
const UNKNOWN = 'ffff';

export function stateName(n: number, blocks: Blocks | null): string {
  const content = blocks === null ? UNKNOWN.repeat(2) : blocks.map((block) => hex(block, 4)).join('');
  return `c0de${hex(n, 20)}${content}`;
}

export function contentOf({ state }: Position): Blocks | null {
  const [first, second] = [state.slice(24, 28), state.slice(28, 32)];
  return first === UNKNOWN ? null : [Number.parseInt(first, 16), Number.parseInt(second, 16)];
}

export function uuid(n: number): string {
  return `c0dec0de-0000-4000-8000-${hex(n, 12)}`;
}

function hex(n: number, length: number): string {
  return n.toString(16).padStart(length, '0');
}

export function noMemory(): Memory {
  const tasks = { begun: false, tried: [], loop: 'off', watching: null, asleep: false } as const;
  return { ...tasks, tried: [], patient: true, answered: 0, granted: null, since: 0 };
}

const ALL_KNOWN: Pick<KnownWorld, 'blocks' | 'synced'> = { blocks: [0, 0], synced: [0, 0] };

/** Where an enabled relationship stands after its initial copy: VM running on A, replica on B at the same position. */
export function initialWorld(budget: Partial<Budget>): World {
  const leaseSeconds = budget.lease === 1 ? LEASE_SECONDS : 0;
  const position: Position = { epoch: 1, sequence: 1, state: stateName(1, [0, 0]) };
  const instant = 0;
  const point: RecoveryPoint = { sequence: 1, epoch: 1, instant, confirmed: instant, kind: 'crash-consistent' };
  const bitmap = `understudy-${ID.slice(0, 8)}-1-1`;
  const record = (host: HostName): ModelRecord => ({
    id: ID,
    vmId: VM_ID,
    vmName: 'vm',
    peer: other(host),
    role: host === 'a' ? 'primary' : 'replica',
    state: 'Replicating',
    epoch: 1,
    intervalSeconds: 30,
    history: 1,
    ...(leaseSeconds === 0 ? {} : { leaseSeconds, stoppedByLease: false }),
    ...((budget.resyncs ?? 0) === 0 ? {} : { autoResync: 'never' }),
    disks: [{ target: 'vda', size: 2 * BLOCK, path: `/${host}/disk` }],
    definition: 'xml',
    autostart: host === 'a',
    position,
    protectedUntil: host === 'a' ? 0 : null,
    bitmap: host === 'a' ? bitmap : null,
    copy: null,
    inFlight: null,
    suspended: false,
    failure: null,
    failover: null,
    test: null,
    created: 0,
  });
  const host = (name: HostName): HostWorld => ({
    up: true,
    boot: 1,
    started: true,
    record: record(name),
    plans: [],
    vm: { state: 'off', defined: `/${name}/lock/${ID}/vda.qcow2`, live: null, pointOpen: false },
    images: { [`/${name}/disk`]: [0, 0] },
    bitmaps: [],
    replica: null,
    outbox: null,
    known: null,
    lease: null,
    stopped: false,
    memory: { ...noMemory(), begun: true },
    truth: [0, 0],
    knows: 0,
  });
  const a: HostWorld = {
    ...host('a'),
    vm: { state: 'running', defined: '/a/disk', live: '/a/disk', pointOpen: false },
    known: budget.known === 1 ? { about: { boot: 'this boot', epoch: 1, position, next: null }, ...ALL_KNOWN } : null,
    bitmaps: [{ name: bitmap, path: '/a/disk', usable: true, dirty: [false, false] }],
    lease: leaseSeconds === 0 ? null : { vmId: VM_ID, vmName: 'vm', sentAt: 0, seconds: leaseSeconds },
    memory: { ...noMemory(), begun: true, loop: 'agreed' },
  };
  const b: HostWorld = {
    ...host('b'),
    replica: {
      epoch: 1,
      start: position,
      applied: position,
      appliedLog: null,
      latest: point,
      frozen: false,
      path: '/b/disk',
      waiting: [],
      older: [],
    },
  };
  const none: Budget = {
    writes: 0,
    failovers: 0,
    planned: 0,
    crashes: 0,
    powerLosses: 0,
    messages: 0,
    cuts: 0,
    errors: 0,
    interruptions: 0,
    lease: 0,
    known: 0,
    resyncs: 0,
  };
  return {
    hosts: { a, b },
    cut: false,
    clock: 0,
    late: [],
    budget: { ...none, ...budget },
    nextName: 10,
    nextWrite: 1,
    licensed: 0,
  };
}

/** A canonical text of a world in JSON: equal for worlds that differ only in names and in how far their numbers have grown. */
export function canonical(text: string): string {
  const names = new Map<string, string>();
  const renamed = text.replace(/c0de[0-9a-f]{20}|c0dec0de-0000-4000-8000-[0-9a-f]{12}|"nextName":\d+/g, (name) => {
    if (name.startsWith('"')) return '';
    let known = names.get(name);
    if (known === undefined) names.set(name, (known = `name${names.size}`));
    return known;
  });
  return closeGaps(renamed);
}

/** Numbers of logs and epochs matter only by their order, and by whether one is right after another. */
function closeGaps(text: string): string {
  const numbers = { s: new Set<number>(), e: new Set<number>() };
  for (const [, key, n] of text.matchAll(NUMBER)) numbers[kindOf(key!)].add(Number(n));
  const ranked = { s: ranks(numbers.s), e: ranks(numbers.e) };
  return text
    .replace(NUMBER, (_all, key: string, n: string) => `"${key}":${ranked[kindOf(key)].get(Number(n))}`)
    .replace(/(understudy-0e0e0e0e)-(\d+)-(\d+)/g, (_all, prefix: string, epoch: string, sequence: string) => {
      const [e, s] = [ranked.e.get(Number(epoch)), ranked.s.get(Number(sequence))];
      return `${prefix}-${e ?? `e${epoch}`}-${s ?? `s${sequence}`}`;
    });
}

const NUMBER = /"(sequence|point|epoch|licensed|knows)":(\d+)/g;

function kindOf(key: string): 's' | 'e' {
  return key === 'sequence' || key === 'point' ? 's' : 'e';
}

function ranks(numbers: Set<number>): Map<number, number> {
  const ranked = new Map<number, number>();
  let rank = 0;
  let last: number | undefined;
  for (const n of [...numbers].toSorted((x, y) => x - y)) {
    if (last !== undefined) rank += n - last > 1 ? 2 : 1;
    ranked.set(n, rank);
    last = n;
  }
  return ranked;
}
