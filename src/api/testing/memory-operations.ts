/** Operations that only pretend, in memory: for tests of what stands on the contract (server, CLI). */
import { EventEmitter, on } from 'node:events';
import { Failure } from '../../model/failure.ts';
import type { Operations, Result, Sent } from '../contract.ts';
import type { ActionView, EventView, PeerView, ReplicationView, VmView } from '../resources.ts';

type Replication = Sent<ReplicationView>;
type Action = Sent<ActionView>;
type Event = Sent<EventView>;

export const NOW = Date.UTC(2026, 10, 21, 9, 15, 5);
const WEB_ID = '6f1c1f0e-31a5-4c2f-9e5e-0d8f6a3f3c01';

export interface MemoryWorld {
  readonly operations: Operations;
  replications: Replication[];
  peers: Sent<PeerView>[];
  /** Of the doctor, the worst last. */
  findings: Result<'doctor'>['findings'];
  /** What the next action ends with; it is done when this is null. */
  nextFailure: Failure | null;
  /** Streams that are open now. */
  openStreams: number;
  addEvent(message: string, severity?: Event['severity']): void;
  /** Replaces a relationship and tells who watches. */
  update(id: string, change: Partial<Replication>): Replication;
}

/** Two VMs, one of them replicated to `host-b`, and a VM that can't be. */
export function createMemoryWorld(): MemoryWorld {
  const changes = new EventEmitter().setMaxListeners(0);
  const events: Event[] = [];
  const actions: Action[] = [];

  const find = (ref: string): Replication => {
    const found = world.replications.filter(({ id, vmId, vmName }) => [id, vmId, vmName].includes(ref));
    if (found.length === 1) return found[0]!;
    throw found.length === 0
      ? new Failure('not-found', `There is no relationship or VM "${ref}"`)
      : new Failure('bad-request', `"${ref}" names ${found.length} relationships`);
  };

  const act = (kind: string, ref: string, result: Action['result']): Action => {
    const { id, vmName } = find(ref);
    const failure = world.nextFailure;
    world.nextFailure = null;
    const step = (title: string, state: 'done' | 'failed') =>
      ({ title, state, startedAt: NOW, endedAt: NOW + 1200, detail: null }) as const;
    const action: Action = {
      id: `action-${actions.length + 1}`,
      kind,
      replication: id,
      vmName,
      state: failure === null ? 'done' : 'undone',
      steps: [step('Make ready', 'done'), step('Do it', failure === null ? 'done' : 'failed')],
      startedAt: NOW,
      endedAt: NOW + 2400,
      result: failure === null ? result : null,
      failure: failure?.toJSON() ?? null,
      obstacle: null,
    };
    actions.push(action);
    const [first, second] = action.steps;
    const waiting = { ...second!, state: 'running', endedAt: null } as const;
    return { ...action, state: 'running', endedAt: null, result: null, failure: null, steps: [first!, waiting] };
  };

  async function* follow<T>(channel: string, first: readonly T[], signal: AbortSignal): AsyncGenerator<T> {
    const later = on(changes, channel, { signal });
    world.openStreams++;
    try {
      yield* first;
      for await (const [item] of later) yield item as T;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      world.openStreams--;
    }
  }

  const findAction = (id: string): Action => {
    const action = actions.find((one) => one.id === id);
    if (action === undefined) throw new Failure('not-found', `There is no action "${id}"`);
    return action;
  };

  const set = (ref: string, change: Partial<Replication>): Promise<Replication> =>
    Promise.resolve(world.update(find(ref).id, change));

  const operations: Operations = {
    daemonStatus: async () => daemon,
    doctor: async ({ vm: name }) => ({
      worst: world.findings.at(-1)?.severity ?? 'ok',
      findings: name === undefined ? world.findings : world.findings.filter(({ subject }) => subject.includes(name)),
    }),
    peerList: async () => world.peers,
    replicaRescan: async () => [{ id: 'r1', vmName: 'web01', peer: 'host-b', outcome: 'rebuilt', failure: null }],
    replicaSeed: async ({ vm, peer = null }) => ({ id: WEB_ID, name: vm, peer }),
    peerToken: async ({ minutes = 15 }) => ({ token: 'TOKEN', expiresAt: NOW + minutes * 60_000 }),
    peerJoin: async ({ token }) => {
      if (token !== 'TOKEN') throw new Failure('token-invalid', 'The token is not known');
      return world.peers[0]!;
    },
    peerRemove: async ({ peer }) => {
      if (!world.peers.some(({ name }) => name === peer)) throw new Failure('not-found', `There is no peer "${peer}"`);
      world.peers = world.peers.filter(({ name }) => name !== peer);
    },
    peerCheck: async ({ peer }) => {
      const failure = world.nextFailure;
      world.nextFailure = null;
      const ok = { name: peer, reachable: true, version: '0.1.0', roundTripMs: 0.8, skewMs: 3, failure: null };
      const bad = { name: peer, reachable: false, version: null, roundTripMs: null, skewMs: null };
      return failure === null ? ok : { ...bad, failure: failure.toJSON() };
    },
    vmList: async () => vms,
    replicationList: async () => world.replications,
    replicationShow: async ({ ref }) => find(ref),
    replicationWatch: async ({ ref }, { signal }) =>
      follow('replication', ref === undefined ? world.replications : [find(ref)], signal),
    replicationEnable: async ({
      vm,
      peer,
      intervalSeconds,
      history,
      thin,
      leaseSeconds,
      excludeDisks,
      useSeed: _useSeed,
      ...limit
    }) => {
      if (vm === 'internal') throw new Error('a bug');
      if (vm !== 'db01') throw new Failure('not-found', `There is no VM "${vm}"`);
      const disks = replication.disks.filter(({ target }) => !excludeDisks.includes(target));
      const settings = { intervalSeconds, history, thin, leaseSeconds, ...limit };
      const begun = { ...replication, id: 'r2', vmId: 'db', vmName: vm, peer, ...settings, disks };
      world.replications = [...world.replications, { ...begun, state: 'InitialReplicationInProgress' }];
      return world.update('r2', {});
    },
    replicationSet: async ({
      ref,
      intervalSeconds,
      history,
      thin,
      leaseSeconds,
      readBytesPerSecond,
      readIops,
      autoResync,
      definitionPolicy,
      replicaPlaintext,
    }) => {
      const present = find(ref);
      const settings = {
        intervalSeconds: intervalSeconds ?? present.intervalSeconds,
        history: history ?? present.history,
        thin: thin ?? present.thin,
        leaseSeconds: leaseSeconds ?? present.leaseSeconds,
        readBytesPerSecond: readBytesPerSecond ?? present.readBytesPerSecond,
        readIops: readIops ?? present.readIops,
        autoResync: autoResync ?? present.autoResync,
        definitionPolicy: definitionPolicy ?? present.definitionPolicy,
        replicaPlaintext: replicaPlaintext ?? present.replicaPlaintext,
      };
      return set(ref, settings);
    },
    replicationSuspend: async ({ ref }) => set(ref, { suspended: true, state: 'Suspended' }),
    replicationResume: async ({ ref }) => set(ref, { suspended: false, state: 'Replicating' }),
    replicationCancelResync: async ({ ref }) => set(ref, { state: 'WaitingForStartResynchronize' }),
    replicationResync: async ({ ref }) => set(ref, { state: 'Resynchronizing' }),
    replicationVerify: async ({ ref }) =>
      set(ref, { verification: { ...VERIFIED, last: { began: NOW, ended: NOW, leftOutBytes: 0 } } }),
    replicationScrub: async ({ ref }) => set(ref, {}),
    replicationDrift: async ({ ref }) => ({
      vmName: find(ref).vmName,
      policy: 'follow',
      since: NOW,
      changes: [{ what: 'memory', primary: '1048576', here: '524288' }],
      lacking: ['network dmz'],
    }),
    replicationYield: async ({ ref, seconds }) => set(ref, { yieldUntil: seconds === 0 ? null : NOW + seconds * 1000 }),
    vmDetach: async ({ vm: ref }) => {
      const { id, name, replications } = vms.find((one) => one.id === ref || one.name === ref)!;
      world.replications = world.replications.filter(({ vmId }) => vmId !== id);
      return { id, name, replication: replications[0] ?? null, bitmaps: 0, rawDisks: [] };
    },
    vmTrackDisk: async ({ vm, disk }) => rawDisk(vm, disk, 'tracked-at-power-off'),
    vmUntrackDisk: async ({ vm, disk }) => rawDisk(vm, disk, 'plain'),
    replicationRemove: async ({ ref }) => {
      const { id } = find(ref);
      world.replications = world.replications.filter((one) => one.id !== id);
    },
    pointList: async ({ ref }) => {
      find(ref);
      return [41, 40].map((sequence) => ({
        sequence,
        epoch: 1,
        instant: NOW - (42 - sequence) * 5000,
        confirmed: NOW - (42 - sequence) * 5000,
        kind: 'crash-consistent' as const,
        latest: sequence === 41,
        damaged: null,
        usable: true,
        undoBytes: sequence === 41 ? null : 65_536,
      }));
    },
    pointExport: async ({ ref, point, file }) => act('point-export', ref, { point, path: file }),
    testFailoverStart: async ({ ref, point = 41 }) =>
      act('failover-test', ref, { vmId: 'test', vmName: 'web01 - Test', point, instant: NOW }),
    testFailoverStop: async ({ ref }) => act('failover-test-stop', ref, {}),
    unplannedFailover: async ({ ref, point = 41, force }) => {
      if (ref === 'r1' && !force) throw new Failure('vm-running', 'host-b says that web01 runs there');
      return act('failover-unplanned', ref, { vmName: 'web01', point, instant: NOW });
    },
    cancelFailover: async ({ ref }) => act('failover-cancel', ref, {}),
    completeFailover: async ({ ref }) => act('failover-complete', ref, {}),
    plannedFailover: async ({ ref }) => act('failover-planned', ref, { vmName: 'web01' }),
    reverseReplication: async ({ ref }) => act('reverse', ref, {}),
    actionList: async ({ ref }) => actions.filter(({ replication: id }) => ref === undefined || id === find(ref).id),
    actionShow: async ({ action }) => findAction(action),
    actionWatch: async ({ action }) => oneOf(findAction(action)),
    eventList: async ({ limit }) => events.toReversed().slice(0, limit),
    eventWatch: async ({ after = -1 }, { signal }) =>
      follow(
        'event',
        events.filter(({ id }) => id > after),
        signal,
      ),
  };

  const world: MemoryWorld = {
    operations,
    replications: [replication],
    peers: [{ name: 'host-b', address: 'host-b:7443', caFingerprint: 'ab'.repeat(32), replications: 1 }],
    findings: [{ severity: 'ok', subject: 'KVM', found: '/dev/kvm is there', cure: null }],
    nextFailure: null,
    openStreams: 0,
    addEvent(message, severity = 'info') {
      const event: Event = { id: events.length, time: NOW, severity, relationship: 'r1', kind: 'test', message };
      events.push(event);
      changes.emit('event', event);
    },
    update(id, change) {
      world.replications = world.replications.map((one) => (one.id === id ? { ...one, ...change } : one));
      const changed = world.replications.find((one) => one.id === id)!;
      changes.emit('replication', changed);
      return changed;
    },
  };
  return world;
}

async function* oneOf<T>(value: T): AsyncGenerator<T> {
  yield value;
}

const daemon = {
  name: 'host-a',
  version: '0.1.0',
  address: 'host-a:7443',
  caFingerprint: 'cd'.repeat(32),
  startedAt: NOW - 3_723_000,
  now: NOW,
  libvirt: { reachable: true, failure: null, versions: { libvirt: '9.0.0', QEMU: '7.2.22' }, remark: null },
  space: [{ purpose: 'replicas', path: '/srv', freeBytes: 3 * 2 ** 30, totalBytes: 10 * 2 ** 30 }],
} as const;

const vm = (name: string, more: Partial<Sent<VmView>>): Sent<VmView> => ({
  id: name,
  name,
  state: 'running',
  autostart: true,
  disks: [{ target: 'vda', path: `/vm/${name}.qcow2`, format: 'qcow2', size: 2 ** 30, unsupported: null }],
  besidesDisks: [],
  replicable: true,
  reason: null,
  replications: [],
  ...more,
});

const vms = [
  vm('web01', { id: WEB_ID, replications: [{ id: 'r1', role: 'primary', peer: 'host-b', state: 'Replicating' }] }),
  vm('db01', {}),
  vm('old', { replicable: false, reason: 'vda: raw disks are not tracked', state: 'off' }),
];

function rawDisk(ref: string, target: string, state: Result<'vmTrackDisk'>['state']): Result<'vmTrackDisk'> {
  const { id, name } = vms.find((one) => one.id === ref || one.name === ref)!;
  const raw = `/images/${name}-${target}.raw`;
  return { id, name, target, raw, image: state === 'plain' ? null : `${raw}.understudy.qcow2`, state };
}

const VERIFIED = {
  equalAt: NOW - 3200,
  pass: null,
  last: null,
  nextDue: NOW,
  different: 0,
  repaired: 0,
  unrepairedBytes: 0,
} as const;

const replication: Replication = {
  id: 'r1',
  vmId: WEB_ID,
  vmName: 'web01',
  vmState: 'running',
  role: 'primary',
  peer: 'host-b',
  state: 'Replicating',
  health: 'normal',
  healthReasons: [],
  suspended: false,
  yieldUntil: null,
  failure: null,
  epoch: 1,
  intervalSeconds: 5,
  history: 24,
  thin: [],
  leaseSeconds: 0,
  readBytesPerSecond: 0,
  readIops: 0,
  autoResync: 'always',
  definitionPolicy: 'follow',
  replicaPlaintext: false,
  lacking: [],
  resync: null,
  stoppedByLease: false,
  leaseLeftMs: null,
  disks: [
    { target: 'vda', size: 2 ** 30, path: '/vm/web01.qcow2' },
    { target: 'vdb', size: 2 ** 29, path: '/vm/web01-data.qcow2' },
  ],
  position: { epoch: 1, sequence: 41, state: '0'.repeat(32) },
  protectedUntil: NOW - 3200,
  lagMs: 3200,
  clockSkewMs: 3,
  pendingBytes: 1536 * 1024,
  inFlight: null,
  copy: null,
  failover: null,
  testVms: [],
  peerStatus: null,
  verification: VERIFIED,
  scrub: null,
  action: null,
  statistics: {
    cycles: 41,
    idleCycles: 2,
    missedCycles: 0,
    failedCycles: 0,
    changedBytes: 2 ** 24,
    sentBytes: 2 ** 22,
    unchangedBytes: 0,
    resentBytes: 0,
    savedBytes: 0,
    linkSpeed: null,
    lastChangedBytes: 2 ** 20,
    lastSentBytes: 2 ** 18,
    lastJobMs: 40,
    maxJobMs: 95,
    lastCycleMs: 120,
  },
  createdAt: NOW - 600_000,
};
