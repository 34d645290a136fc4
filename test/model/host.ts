/** A host's daemon in the explored world: the real plans, roles, primary engine and endpoint, over the world's parts. */
import type { DaemonServices } from '../../src/daemon/services.ts';
import { failoverOperations } from '../../src/daemon/operations/failovers.ts';
import { replicationOperations } from '../../src/daemon/operations/replications.ts';
import { endpointFor } from '../../src/daemon/replica-host.ts';
import { Roles } from '../../src/daemon/roles.ts';
import { cancelFailover } from '../../src/failover/cancel.ts';
import { completeFailover } from '../../src/failover/complete.ts';
import { plannedFailover } from '../../src/failover/planned.ts';
import { reverseReplication } from '../../src/failover/reverse.ts';
import type { FailoverServices } from '../../src/failover/services.ts';
import { takeOver } from '../../src/failover/take-over.ts';
import { unplannedFailover } from '../../src/failover/unplanned.ts';
import { hasEnded, type Plan, type PlanArgs } from '../../src/journal/plan.ts';
import { cancelPlan, runPlan, type PlanDefinition } from '../../src/journal/runner.ts';
import { silentLog } from '../../src/lib/log.ts';
import { Failure } from '../../src/model/failure.ts';
import { ReplicationLoop } from '../../src/primary/loop.ts';
import { Primaries } from '../../src/primary/primaries.ts';
import { Replication, type PrimaryServices } from '../../src/primary/replication.ts';
import type { ReplicaEndpoint } from '../../src/protocol/endpoint.ts';
import { NO_STATISTICS, type RelationshipRecord } from '../../src/store/store.ts';
import { ModelHypervisor } from './hypervisor.ts';
import { ModelJournal } from './journal.ts';
import { knownOf } from './known.ts';
import { linkFrom } from './link.ts';
import { ModelOutbox } from './outbox.ts';
import { ModelReplicas } from './replica.ts';
import { Life, type Run } from './run.ts';
import { onStage } from './stage.ts';
import { ID, other, uuid, type HostName, type ModelRecord } from './world.ts';

const PLANS = new Map(
  [unplannedFailover, cancelFailover, completeFailover, plannedFailover, takeOver, reverseReplication].map(
    (definition): [string, PlanDefinition<FailoverServices>] => [definition.kind, definition],
  ),
);
const LOG = silentLog();
/** A wait whose end is up to the explorer lasts as long as it likes. */
export const PATIENCE_MINUTES = 5;

export class ModelHost {
  readonly life: Life;
  readonly journal: ModelJournal;
  readonly services: DaemonServices;
  readonly roles: Roles;
  readonly operations: ReturnType<typeof failoverOperations> & ReturnType<typeof replicationOperations>;
  /** Time since the activity began, ms. */
  elapsed = 0;

  constructor(run: Run, name: HostName) {
    const life = new Life(run, name);
    this.life = life;
    this.journal = new ModelJournal(life);
    const hypervisor = new ModelHypervisor(life);
    const endpoint = linkFrom(life, answering);
    const store = {
      relationship: () => {
        life.live();
        return shown(life.here.record);
      },
      relationships: () => (life.here.record === null ? [] : [shown(life.here.record)]),
      peer: () => undefined,
      putRelationship: (record: RelationshipRecord) => {
        // What is only shown makes no other state.
        const { statistics: _shown, resync, ...rest } = record;
        const why =
          resync === undefined || resync.begin === 'by-policy' ? {} : { resync: { ...resync, reason: 'why' } };
        const next = { ...rest, ...why, failure: null, protectedUntil: null };
        if (JSON.stringify(next) === JSON.stringify(life.here.record)) return;
        life.effect('write its record');
        life.here.record = next;
        life.changed();
      },
    };
    const outbox = new ModelOutbox(life);
    const forPrimary = {
      hypervisor,
      endpoint,
      store,
      outbox,
      known: knownOf(run.world, name),
      log: LOG,
      now: () => 0,
      steady: () => 0,
      boot: () => 0,
      compression: 'none',
      lanes: { count: 1 },
      verifySeconds: 0,
      sliceBytes: 1e9,
      compareBytesPerSecond: 0,
      outboxLimit: async () => 1e9,
      pointLimits: { openMs: Number.POSITIVE_INFINITY },
      event: () => undefined,
    } as unknown as PrimaryServices;
    const context = {
      hypervisor,
      store,
      replicas: new ModelReplicas(life),
      primaries: new ModelPrimaries(this, forPrimary),
      testViews: { close: async () => undefined },
      peer: () => endpoint,
      replicaDirectory: (id: string) => `/${name}/replicas/${id}`,
      lockDirectory: `/${name}/lock`,
      leases: {
        directory: `/${name}/leases`,
        granted: {
          get: () => life.here.memory.granted ?? undefined,
          set: (_id: string, until: number) => (life.here.memory.granted = until),
        },
        since: life.here.memory.since,
        gates: new Map(),
      },
      now: () => 0,
      boot: () => 0,
      arrivals: new Map(),
      lacking: new Map(),
      peerClocks: { offset: () => undefined, skewMs: () => null },
      steady: () => (this.elapsed += life.here.memory.patient ? 0 : PATIENCE_MINUTES * 60_000),
      event: () => undefined,
    } as unknown as FailoverServices;
    const actions = new ModelActions(this.journal, life, context);
    const config = { name };
    this.services = { ...context, actions, log: LOG, config } as unknown as DaemonServices;
    this.operations = { ...failoverOperations(this.services), ...replicationOperations(this.services) };
    this.roles = new Roles({
      services: context,
      log: LOG,
      runDirectory: `/${name}/run`,
      startPolicy: 'when-known',
      startPolicyMinutes: PATIENCE_MINUTES,
      inAction: () => this.journal.holder() !== undefined,
    });
  }

  get replication(): Replication {
    return (this.services.primaries as ModelPrimaries).replication;
  }

  /** The loop ends in order, and with it the file that an activity before this one has left open. */
  async endKnowing(): Promise<void> {
    const { here } = this.life;
    if (here.known === null || here.known.about.boot === null) return;
    this.life.effect('close what it knows of the replica');
    here.known = { about: { ...here.known.about, boot: null }, blocks: here.known.blocks, synced: here.known.blocks };
  }

  /** Carries a plan on, to its next step or its end. */
  async carryOn(plan: Plan): Promise<void> {
    this.journal.stepwise = true;
    try {
      await runPlan(this.journal.real, PLANS.get(plan.kind)!, plan, this.services);
    } finally {
      this.journal.stepwise = false;
    }
  }
}

function shown(record: ModelRecord | null): RelationshipRecord | undefined {
  return record === null ? undefined : { ...record, statistics: NO_STATISTICS };
}

class ModelActions {
  readonly #journal: ModelJournal;
  readonly #life: Life;
  readonly #context: FailoverServices;

  constructor(journal: ModelJournal, life: Life, context: FailoverServices) {
    this.#journal = journal;
    this.#life = life;
    this.#context = context;
  }

  get journal() {
    return this.#journal.real;
  }

  async begin(kind: string, relationship: string, args: PlanArgs, id?: string): Promise<Plan> {
    const { run } = this.#life;
    return await this.#journal.begin(PLANS.get(kind)!, { relationship, args, id: id ?? uuid(run.name()) });
  }

  /** Whoever waits for a plan that meets an obstacle waits in vain. */
  async finish(kind: string, relationship: string, args: PlanArgs, id?: string): Promise<Plan> {
    const plan = await this.begin(kind, relationship, args, id);
    const { run, host } = this.#life;
    if (run.under.some((one) => one.host === host && one.what.startsWith('plan'))) run.prune();
    try {
      return await runPlan(this.#journal.real, PLANS.get(kind)!, plan, this.#context);
    } catch (error) {
      if (!hasEnded(this.#journal.plan(plan.id)!)) throw new Failure('timeout', 'the plan waits before an obstacle');
      throw error;
    }
  }

  async giveUp(): Promise<Plan> {
    const plan = this.#journal.holder();
    if (plan === undefined) throw new Failure('wrong-state', 'no action is under way');
    const reason = new Failure('wrong-state', 'cancelled by an administrator');
    return await cancelPlan(this.#journal.real, PLANS.get(plan.kind)!, plan, this.#context, reason);
  }
}

/** The real rules for when a loop runs; that it runs is a note in the world, and the explorer moves it on. */
export class ModelPrimaries extends Primaries {
  readonly #host: ModelHost;
  readonly #services: PrimaryServices;

  constructor(host: ModelHost, services: PrimaryServices) {
    super({ store: services.store, services: () => services, onRoleLost: () => undefined });
    this.#host = host;
    this.#services = services;
  }

  get replication(): Replication {
    return new Replication(ID, this.#services);
  }

  override loop(): ReplicationLoop {
    const { memory } = this.#host.life.here;
    const loop = new ReplicationLoop(this.replication, { onRoleLost: () => undefined });
    loop.start = () => {
      this.#host.life.live();
      if (memory.loop === 'off') memory.loop = 'to agree';
    };
    return loop;
  }

  override async stop(): Promise<void> {
    const { life } = this.#host;
    life.live();
    // It would wait for the loop, which goes on after us: the same as if we came after it.
    if (life.run.under.some(({ host, what }) => host === life.host && what === 'loop')) life.run.prune();
    life.here.memory.loop = 'off';
    await this.#host.endKnowing();
  }
}

const hosts = new WeakMap<Run, Map<string, ModelHost>>();

/** The daemon that lives on a host now. */
export function hostOf(run: Run, name: HostName): ModelHost {
  const known = hosts.get(run) ?? new Map<string, ModelHost>();
  hosts.set(run, known);
  const key = `${name}${run.world.hosts[name].boot}`;
  let host = known.get(key);
  if (host === undefined) {
    host = new ModelHost(run, name);
    known.set(key, host);
    onStage().lives[name] = host.life;
  }
  return host;
}

export function answering(run: Run, host: HostName): ReplicaEndpoint {
  return endpointFor(hostOf(run, host).services, other(host));
}
