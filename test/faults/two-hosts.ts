/**
 * Two hosts in one process, wired as the daemon wires one: SQLite, journal, plans, roles, replica engine and primary engine
 * are the real ones; VMs are those of the qsd hypervisor, and between the hosts lies a link that can be broken.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Call, CallName, Input, Result } from '../../src/api/contract.ts';
import { Actions } from '../../src/daemon/actions.ts';
import { defaultConfig } from '../../src/daemon/config/read.ts';
import { EventFeed } from '../../src/daemon/event-feed.ts';
import { failoverOperations } from '../../src/daemon/operations/failovers.ts';
import { proofOperations } from '../../src/daemon/operations/proofs.ts';
import { replicationOperations } from '../../src/daemon/operations/replications.ts';
import { openStore } from '../../src/daemon/open-store.ts';
import { endpointFor } from '../../src/daemon/replica-host.ts';
import { PrimaryNotes } from '../../src/daemon/primary-notes.ts';
import { mendStore } from '../../src/daemon/restored-store.ts';
import { noteShape } from '../../src/daemon/replica-shape.ts';
import { rescanIfForgotten } from '../../src/daemon/rescan.ts';
import { resumeTests } from '../../src/daemon/resume-tests.ts';
import { Roles } from '../../src/daemon/roles.ts';
import type { DaemonServices } from '../../src/daemon/services.ts';
import { cancelFailover } from '../../src/failover/cancel.ts';
import { completeFailover } from '../../src/failover/complete.ts';
import { LOCK_NAME } from '../../src/failover/definition.ts';
import { newLeases } from '../../src/failover/lease.ts';
import { plannedFailover } from '../../src/failover/planned.ts';
import { trackRawDisk, untrackRawDisk } from '../../src/failover/raw-disk.ts';
import { removeReplication } from '../../src/failover/remove.ts';
import { reverseReplication } from '../../src/failover/reverse.ts';
import type { FailoverServices } from '../../src/failover/services.ts';
import { takeOver } from '../../src/failover/take-over.ts';
import { testFailoverStart, testFailoverStop } from '../../src/failover/test.ts';
import { TestViews } from '../../src/failover/test-views.ts';
import { unplannedFailover } from '../../src/failover/unplanned.ts';
import type { Hypervisor } from '../../src/hypervisor/hypervisor.ts';
import { Journal } from '../../src/journal/journal.ts';
import type { PlanDefinition } from '../../src/journal/runner.ts';
import { Lanes } from '../../src/lanes/lanes.ts';
import type { Clocks } from '../../src/lib/clock.ts';
import { Turns } from '../../src/lib/turns.ts';
import { silentLog } from '../../src/lib/log.ts';
import { Failure } from '../../src/model/failure.ts';
import { KnownBlocks } from '../../src/primary/known-blocks.ts';
import { Outbox } from '../../src/primary/outbox.ts';
import { POINT_LIMITS } from '../../src/primary/open-point.ts';
import { Primaries } from '../../src/primary/primaries.ts';
import type { ReplicaEndpoint } from '../../src/protocol/endpoint.ts';
import { Replicas } from '../../src/replica/replicas.ts';
import { Scrubbing } from '../../src/replica/scrubbing.ts';
import type { SqliteStore } from '../../src/store/sqlite/store.ts';
import { FaultyLink } from './faulty-link.ts';

export type HostName = 'a' | 'b';
export const other = (name: HostName): HostName => (name === 'a' ? 'b' : 'a');

export const PLANS: readonly PlanDefinition<FailoverServices>[] = [
  testFailoverStart,
  testFailoverStop,
  unplannedFailover,
  cancelFailover,
  completeFailover,
  plannedFailover,
  takeOver,
  reverseReplication,
  removeReplication,
  trackRawDisk,
  untrackRawDisk,
];

/** Small, so that a test's disks are many slices; `SLICE_BYTES` of the environment counts before. */
const SLICE_BYTES = 256 * 1024;

type Offered = ReturnType<typeof failoverOperations> &
  ReturnType<typeof proofOperations> &
  ReturnType<typeof replicationOperations>;

export class Host {
  readonly name: HostName;
  readonly services: DaemonServices;
  readonly #operations: Offered;
  /** How the other host sees this one, without a network in between. */
  readonly endpoint: ReplicaEndpoint;
  /** Most bytes that a log may have; a process of its own takes them from `OUTBOX_LIMIT`. */
  outboxLimit = Number(process.env['OUTBOX_LIMIT'] ?? Number.POSITIVE_INFINITY);
  /** In which both sides are compared along with cycles; 0: only when asked for. Read when a relationship is first looked at. */
  verifySeconds = 0;
  /** The way from this host to the other. */
  readonly link = new FaultyLink();
  /** How far this host's clock has been set, and for how long it was suspended, ms. */
  clockSet = 0;
  suspended = 0;
  /** What it knows of the other's: that minus its boot clock. */
  offset: number | undefined;
  readonly #roles: Roles;
  readonly #store: SqliteStore;
  readonly #notes: PrimaryNotes;
  readonly #lanes: Lanes;

  private constructor(
    name: HostName,
    services: DaemonServices,
    roles: Roles,
    store: SqliteStore,
    notes: PrimaryNotes,
    lanes: Lanes,
  ) {
    this.name = name;
    this.services = services;
    this.#roles = roles;
    this.#store = store;
    this.#notes = notes;
    this.#lanes = lanes;
    this.#operations = {
      ...replicationOperations(services),
      ...proofOperations(services),
      ...failoverOperations(services),
    };
    this.endpoint = endpointFor(services, other(name));
  }

  /** @param peer how the other host answers, asked for at each call. */
  static async open(
    directory: string,
    name: HostName,
    machine: Hypervisor,
    peer: () => ReplicaEndpoint,
  ): Promise<Host> {
    const hypervisor = withClock(machine, () => made.clockSet);
    const at = (...path: string[]) => join(directory, name, ...path);
    await mkdir(at('run'), { recursive: true });
    const log = silentLog();
    const lanes = new Lanes();
    const points = new Turns(2);
    const notes = new PrimaryNotes(at('primaries'));
    const { store } = await openStore(at('understudy.sqlite'), Date.now(), notes);
    const events = new EventFeed(store, log);
    const replicas = await Replicas.open({
      directory: at('replicas'),
      runDirectory: at('run'),
      lanes,
      log,
      onReshaped: (id, disks) => noteShape(store, id, disks),
      onDamage: (id, text) => events.add(id, 'critical', 'replica-damaged', text),
    });
    const endpoint = following(() => made.link.over(peer()));
    const context: FailoverServices = {
      hypervisor,
      store,
      replicas,
      primaries: new Primaries({
        store,
        services: (id) => ({
          hypervisor,
          endpoint,
          store,
          outbox: new Outbox(at('outbox', id)),
          known: new KnownBlocks(at('digests', id), log),
          lanes,
          log,
          ...clocksOf(() => made),
          compression: 'auto',
          outboxLimit: async () => made.outboxLimit,
          pointLimits: POINT_LIMITS,
          points,
          verifySeconds: made.verifySeconds,
          compareBytesPerSecond: defaultConfig(name).resync.readBytesPerSecond,
          sliceBytes: Number(process.env['SLICE_BYTES'] ?? SLICE_BYTES),
          event: (severity, kind, message) => events.add(id, severity, kind, message),
        }),
        onRoleLost: (id) => roles.roleLost(id),
      }),
      testViews: new TestViews(replicas, hypervisor, at('run', 'tests')),
      peer: () => endpoint,
      replicaDirectory: (id) => at('replicas', id),
      lockDirectory: at(LOCK_NAME),
      leases: newLeases(at('run', 'leases')),
      ...clocksOf(() => made),
      event: (relationship, severity, kind, message) => events.add(relationship, severity, kind, message),
    };
    await context.testViews.disconnect();
    const policy = { startPolicy: 'when-known', startPolicyMinutes: 5 } as const;
    const journal = await Journal.open(at('journal'));
    const inAction = (id: string) => journal.holder(id) !== undefined;
    const roles = new Roles({ services: context, log, runDirectory: at('run'), ...policy, inAction });
    const actions = new Actions({ journal, definitions: PLANS, context, log, event: context.event });
    // What is left out is the network's and libvirt's: nothing of it is asked for here.
    const scrubbing = new Scrubbing({ replicas, passSeconds: 0, now: Date.now, log });
    const clocks = {
      arrivals: new Map(),
      lacking: new Map(),
      peerClocks: { offset: () => made.offset, skewMs: () => null },
    };
    const told = { actions, events, scrubbing, log, config: { name, networks: {} } };
    const services = { ...context, ...told, ...clocks } as unknown as DaemonServices;
    const made = new Host(name, services, roles, store, notes, lanes);
    return made;
  }

  /** Asks for an operation of the API. */
  async ask<N extends keyof Offered & CallName>(name: N, input: Input<N>): Promise<Result<N>> {
    const operation = this.#operations[name] as unknown as (input: Input<N>, call: Call) => Promise<Result<N>>;
    return await operation(input, { signal: new AbortController().signal });
  }

  /** What a start of the daemon does once its peer can reach it. */
  async begin(): Promise<void> {
    await mendStore(this.services, this.#notes);
    await rescanIfForgotten(this.services);
    await resumeTests(this.services);
    await this.services.actions.takeUp();
    this.services.scrubbing.begin();
    await this.#roles.begin();
  }

  /** The peer holds the role: told by whoever hears it first. */
  roleLost(id: string): void {
    this.#roles.roleLost(id);
  }

  async close(): Promise<void> {
    await this.services.scrubbing.close();
    await this.#roles.close();
    await this.services.actions.close();
    await this.services.primaries.stopAll();
    await this.services.testViews.closeAll();
    await this.services.replicas.close();
    this.#store.close();
    await this.#lanes.close();
  }
}

export class TwoHosts {
  readonly #directory: string;
  readonly #hypervisors: Readonly<Record<HostName, Hypervisor>>;
  readonly #hosts = new Map<HostName, Host>();
  /** Answers for a host whose daemon is another process's. */
  readonly #elsewhere = new Map<HostName, ReplicaEndpoint>();
  #closing: Promise<unknown> | undefined;

  private constructor(directory: string, hypervisors: Readonly<Record<HostName, Hypervisor>>) {
    this.#directory = directory;
    this.#hypervisors = hypervisors;
  }

  /** Both daemons start. @param directory short: sockets lie below it. */
  static async open(directory: string, hypervisors: Readonly<Record<HostName, Hypervisor>>): Promise<TwoHosts> {
    const hosts = new TwoHosts(directory, hypervisors);
    for (const name of ['a', 'b'] as const) await hosts.#open(name);
    return hosts;
  }

  get a(): Host {
    return this.host('a');
  }

  get b(): Host {
    return this.host('b');
  }

  host(name: HostName): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new Error(`host ${name} is another process's`);
    return host;
  }

  /** Ends the daemon of one host; the other one can't reach it. */
  async stop(name: HostName): Promise<void> {
    const unreachable = () => Promise.reject(new Failure('unreachable', `the daemon of ${name} has ended`));
    this.#elsewhere.set(name, new Proxy({} as ReplicaEndpoint, { get: () => unreachable }));
    await this.host(name).close();
    this.#hosts.delete(name);
  }

  /** The daemon of a host that was stopped is another process's from now on. */
  lend(name: HostName, endpoint: ReplicaEndpoint): void {
    this.#elsewhere.set(name, endpoint);
  }

  /** Starts the daemon of a host again. */
  async takeBack(name: HostName): Promise<void> {
    const { cut } = this.host(other(name)).link;
    const host = await this.#open(name);
    host.link.cut = cut;
    this.#elsewhere.delete(name);
    await host.begin();
  }

  async #open(name: HostName): Promise<Host> {
    const peer = () => this.#elsewhere.get(other(name)) ?? this.host(other(name)).endpoint;
    const host = await Host.open(this.#directory, name, this.#hypervisors[name], peer);
    this.#hosts.set(name, host);
    return host;
  }

  async begin(): Promise<void> {
    await Promise.all([this.a.begin(), this.b.begin()]);
  }

  get cut(): boolean {
    return this.a.link.cut;
  }

  /** Cuts both ways, or mends them. */
  set cut(cut: boolean) {
    this.a.link.cut = cut;
    this.b.link.cut = cut;
  }

  /** Ends both daemons; the VMs go on. Closing twice is no error. */
  async close(): Promise<void> {
    // Each may wait for an answer of the other.
    this.#closing ??= Promise.all([...this.#hosts.values()].map((host) => host.close()));
    await this.#closing;
  }
}

/** A point's instant is told by the host's clock. */
function withClock(hypervisor: Hypervisor, set: () => number): Hypervisor {
  const openPoint: Hypervisor['openPoint'] = async (request) => {
    const point = await hypervisor.openPoint(request);
    return { ...point, instant: point.instant + set(), instantEnd: point.instantEnd + set() };
  };
  return new Proxy(hypervisor, {
    get: (target, name) => {
      if (name === 'openPoint') return openPoint;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

function clocksOf(host: () => Host): Clocks {
  return {
    now: () => Date.now() + host().clockSet,
    steady: () => performance.now(),
    boot: () => performance.now() + host().suspended,
  };
}

function following(now: () => ReplicaEndpoint): ReplicaEndpoint {
  return {
    prepare: (request) => now().prepare(request),
    status: (id, signal) => now().status(id, signal),
    durableOffset: (id, log, signal) => now().durableOffset(id, log, signal),
    put: (id, log, offset, body, signal) => now().put(id, log, offset, body, signal),
    confirm: (id, position, instant, signal) => now().confirm(id, position, instant, signal),
    digests: (id, question, signal) => now().digests(id, question, signal),
    pageDigests: (id, question, signal) => now().pageDigests!(id, question, signal),
    verify: (id, question, signal) => now().verify!(id, question, signal),
    takeOver: (id, request) => now().takeOver(id, request),
    remove: (id, options) => now().remove(id, options),
  };
}
