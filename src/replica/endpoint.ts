/**
 * The Replica server in this process: what a primary asks of it, over a host's replicas. What isn't the replica engine's
 * business (VMs, roles, the store) it asks of its host.
 */
import { Gate } from '../lib/gate.ts';
import { DEFAULT_AUTO_RESYNC } from '../model/auto-resync.ts';
import { DEFAULT_DEFINITION_POLICY } from '../model/definition-changes.ts';
import { Failure } from '../model/failure.ts';
import { samePosition, type Position, type ReplicatedDisk, type ReplicationState } from '../model/relationship.ts';
import { canBecome } from '../model/shape.ts';
import type {
  BlockQuestion,
  LogName,
  PageQuestion,
  PrepareReplica,
  ReplicaEndpoint,
  ReplicaStatus,
  TakeOver,
  VerifyAnswer,
  VerifyQuestion,
} from '../protocol/endpoint.ts';
import type { LocalDisk } from '../store/store.ts';
import type { ReplicaPeer } from './record.ts';
import type { Replica } from './replica.ts';
import type { Replicas } from './replicas.ts';

/** Disks that a former primary gives to become the replica's. */
export interface FormerDisks {
  readonly disks: readonly LocalDisk[];
  /** ms since the epoch: when what they hold was last written, as far as known. */
  readonly instant: number;
}

/** The host of the replicas. */
export interface ReplicaHost {
  /** Status of a relationship whose primary this host is now; undefined where it isn't. */
  primaryStatus(id: string): ReplicaStatus | undefined;
  /** Disks of a VM of this host for a replica to begin with; undefined where it has none or won't give them. */
  adoptDisks(request: PrepareReplica): Promise<FormerDisks | undefined>;
  /** A replica was created or changed: define its locked VM, remember the relationship. May be told twice of the same. */
  prepared(replica: Replica, request: PrepareReplica): Promise<void>;
  takeOver(id: string, request: TakeOver): Promise<ReplicaStatus>;
  /** A replica is about to be removed, or is gone already. */
  removed(id: string, options: { keepDisks: boolean }): Promise<void>;
  stateOf(id: string): ReplicationState;
  vmRunning(id: string): Promise<boolean>;
}

export class LocalEndpoint implements ReplicaEndpoint {
  readonly #replicas: Replicas;
  readonly #host: ReplicaHost;
  readonly #peer: () => ReplicaPeer | null;
  readonly #preparing = new Gate();

  /** @param peer the host of the primaries that ask, as it is known now. */
  constructor(replicas: Replicas, host: ReplicaHost, peer: () => ReplicaPeer | null = () => null) {
    this.#replicas = replicas;
    this.#host = host;
    this.#peer = peer;
  }

  async prepare(request: PrepareReplica): Promise<ReplicaStatus> {
    return await this.#preparing.run(`preparing ${request.id}`, async () => {
      const primary = this.#host.primaryStatus(request.id);
      if (primary !== undefined && request.epoch < primary.epoch) throw stale(request.id, request.epoch, primary.epoch);
      const there = this.#replicas.find(request.id);
      if (primary !== undefined && there !== undefined) {
        throw new Failure('wrong-role', `${request.vmName} has failed over to this host`, {
          hint: 'Complete or cancel the failover there first.',
        });
      }
      const replica = there === undefined ? await this.#create(request) : await this.#change(there, request);
      this.#requireRole(request, primary);
      try {
        await this.#host.prepared(replica, request);
      } catch (error) {
        // Nobody knows of it: it would be in the way of the next one.
        if (there === undefined && primary === undefined) {
          await this.#replicas.remove(request.id, { keepDisks: request.base !== 'empty' });
        }
        throw error;
      }
      return await this.#statusOf(replica);
    });
  }

  async status(id: string): Promise<ReplicaStatus> {
    return this.#host.primaryStatus(id) ?? (await this.#statusOf(this.#replicas.get(id)));
  }

  async durableOffset(id: string, log: LogName): Promise<number> {
    return await this.#following(id).durableOffset(log);
  }

  async put(
    id: string,
    log: LogName,
    offset: number,
    body: AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<ReplicaStatus> {
    const replica = this.#following(id);
    await replica.receive(log, offset, body, signal);
    return await this.#statusOf(replica);
  }

  async confirm(id: string, position: Position, instant: number): Promise<ReplicaStatus> {
    const replica = this.#following(id);
    await replica.confirm(position, instant);
    return await this.#statusOf(replica);
  }

  async digests(id: string, question: BlockQuestion): Promise<Uint8Array> {
    return await this.#following(id).questions.digests(question);
  }

  async pageDigests(id: string, question: PageQuestion, signal?: AbortSignal): Promise<Uint8Array> {
    return await this.#following(id).questions.pageDigests(question, signal);
  }

  async verify(id: string, question: VerifyQuestion, signal?: AbortSignal): Promise<VerifyAnswer> {
    return await this.#following(id).questions.verify(question, signal);
  }

  async takeOver(id: string, request: TakeOver): Promise<ReplicaStatus> {
    return await this.#host.takeOver(id, request);
  }

  async remove(id: string, options: { keepDisks: boolean }): Promise<void> {
    if (this.#host.primaryStatus(id) !== undefined) {
      throw new Failure('wrong-role', `this host is the primary of relationship ${id}`);
    }
    await this.#host.removed(id, options);
    await this.#replicas.remove(id, options);
  }

  async #create(request: PrepareReplica): Promise<Replica> {
    const { base, start } = request;
    if (base === 'continue') return this.#replicas.get(request.id); // says why there is none
    if (start === undefined) throw new Failure('bad-request', `start: ${base} needs a position to count from`);
    const { id, vmId, vmName, definition, epoch, intervalSeconds, history, thin = [] } = request;
    const { leaseSeconds = 0, autoResync = DEFAULT_AUTO_RESYNC } = request;
    const { definitionPolicy = DEFAULT_DEFINITION_POLICY } = request;
    const peer = this.#peer();
    const about = { id, vmId, vmName, definition, epoch, intervalSeconds, history, thin, leaseSeconds, autoResync };
    const received = { definition, since: Date.now() };
    const settings = { ...about, received, definitionPolicy, peer, position: start };
    if (base === 'empty') {
      if (this.#host.primaryStatus(id) !== undefined) {
        throw new Failure('wrong-role', `this host is the primary of relationship ${id}`);
      }
      const disks = request.disks.map(({ target, size }) => ({ target, size }));
      return await this.#replicas.create({ ...settings, disks });
    }
    const former = await this.#host.adoptDisks(request);
    if (former === undefined) {
      throw new Failure('not-found', `this host has no disks of relationship ${id} to compare with`, {
        hint: 'Begin with an initial copy, or name the VM there whose disks may be used: `understudy replica seed VM --peer HOST`.',
      });
    }
    const { instant } = former;
    return await this.#replicas.create({
      ...settings,
      disks: adopted(request.disks, former.disks),
      latest: { sequence: start.sequence, epoch: start.epoch, instant, confirmed: instant, kind: 'found' },
    });
  }

  async #change(replica: Replica, request: PrepareReplica): Promise<Replica> {
    const { base, start, epoch, vmName, definition, intervalSeconds, history, thin = [] } = request;
    const { record } = replica;
    if (epoch < record.epoch) throw stale(request.id, epoch, record.epoch);
    checkDisks(request.disks, record.disks);
    if (request.needs !== undefined) await replica.room.require(request.needs);
    if (base !== 'continue') {
      if (start === undefined) throw new Failure('bad-request', `start: ${base} needs a position to count from`);
      // Asked before, and the answer got lost: nothing to be done again.
      if (!samePosition(start, record.start)) {
        if (replica.frozen) throw new Failure('wrong-state', `the replica of ${record.vmName} is in a failover`);
        if (base === 'empty' && !isEmpty(replica)) {
          throw new Failure('already-exists', `the replica of ${record.vmName} has data already`, {
            hint: 'Compare both sides instead (`understudy replication resync`), or remove the replica.',
          });
        }
        await replica.rebase(start);
      }
    }
    this.#requireRole(request, undefined);
    await replica.raiseEpoch(epoch);
    const { leaseSeconds = record.leaseSeconds, autoResync = record.autoResync } = request;
    const { definitionPolicy = record.definitionPolicy } = request;
    // What the VM is defined by stays as it is until this host has tried the new one: it may not be able to.
    const isNews = definition !== (record.received?.definition ?? record.definition);
    const settings = { vmName, intervalSeconds, history, thin: [...thin], leaseSeconds, autoResync, definitionPolicy };
    await replica.setSettings({
      ...settings,
      ...(isNews ? { received: { definition, since: Date.now() } } : {}),
      peer: this.#peer(),
    });
    return replica;
  }

  /** Asked again after each wait: a failover of this host may have taken the role meanwhile. */
  #requireRole({ id, vmName }: PrepareReplica, before: ReplicaStatus | undefined): void {
    if (before !== undefined || this.#host.primaryStatus(id) === undefined) return;
    throw new Failure('busy', `${vmName} has failed over to this host just now`);
  }

  /** The replica, as long as it follows a primary elsewhere. */
  #following(id: string): Replica {
    const primary = this.#host.primaryStatus(id);
    if (primary !== undefined) {
      throw new Failure(
        'stale-epoch',
        `this host has been the primary of relationship ${id} since epoch ${primary.epoch}`,
      );
    }
    return this.#replicas.get(id);
  }

  async #statusOf(replica: Replica): Promise<ReplicaStatus> {
    const { id } = replica;
    const missingBytes = await replica.room.missing();
    const vmRunning = await this.#host.vmRunning(id);
    // In one breath: the epoch of a failover that begins, with the state from before, would look like one that is over (SPEC.md).
    const status = { id, role: 'replica', state: this.#host.stateOf(id), ...replica.status(), vmRunning } as const;
    return missingBytes === undefined ? status : { ...status, missingBytes };
  }
}

function stale(id: string, theirs: number, ours: number): Failure {
  return new Failure('stale-epoch', `relationship ${id} is at epoch ${ours} here; epoch ${theirs} is over`);
}

/** Nothing has been received yet. */
function isEmpty(replica: Replica): boolean {
  const { received } = replica.status();
  return samePosition(received, replica.record.start) && replica.points().length === 0;
}

function checkDisks(theirs: readonly ReplicatedDisk[], ours: readonly ReplicatedDisk[]): void {
  // Their sizes follow with the logs.
  if (!canBecome(ours, theirs)) {
    throw new Failure('bad-request', "disks: the replica's disks are others", {
      hint: 'Remove the replica and enable replication again.',
    });
  }
}

/** The former primary's disks, in the order in which the new primary names them; to other sizes they come with the logs. */
function adopted(wanted: readonly ReplicatedDisk[], former: readonly LocalDisk[]): LocalDisk[] {
  return wanted.map(({ target }) => {
    const disk = former.find((one) => one.target === target);
    if (disk === undefined) throw new Failure('not-found', `this host's VM has no disk ${target}`);
    return disk;
  });
}
