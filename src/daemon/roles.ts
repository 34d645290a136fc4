/**
 * Who may run a VM, as far as two hosts can know (design, invariant 6). Only a person's failover changes it; here is what each
 * side does when it learns of one, and what a host does with its protected VMs when it starts.
 */
import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { asFailure } from '../model/failure.ts';
import { defineRunnable } from '../failover/definition.ts';
import { stepDown } from '../failover/fence.ts';
import { mayRun } from '../failover/lease.ts';
import { move, recordOf, type FailoverServices } from '../failover/services.ts';
import { markStarting } from '../failover/starting.ts';
import { judgeAfterStepDown, judgePeer, judgeStart, type StartPolicy } from '../model/role.ts';
import type { ReplicaStatus } from '../protocol/endpoint.ts';
import type { RelationshipRecord } from '../store/store.ts';

export interface RolesOptions {
  readonly services: FailoverServices;
  readonly log: Log;
  readonly runDirectory: string;
  readonly startPolicy: StartPolicy;
  readonly startPolicyMinutes: number;
  /** Whether an action is about to change who holds the role: then its own steps ask, and what they find counts. */
  readonly inAction: (id: string) => boolean;
}

/** How often a host that has stepped down, or is waiting to start a VM, asks its peer, ms. */
const ASK_EVERY_MS = 2000;

export class Roles {
  readonly #options: RolesOptions;
  readonly #stop = new AbortController();
  readonly #watches = new Map<string, Promise<void>>();

  constructor(options: RolesOptions) {
    this.#options = options;
  }

  /**
   * Begins at the start of the daemon: relationships that this host is the primary of go on. After a restart of the host
   * their VMs are off, and those that start with the host start by the policy.
   */
  async begin(): Promise<void> {
    const { services, runDirectory } = this.#options;
    const marker = join(runDirectory, 'started');
    const hostRestarted = !(await exists(marker));
    const starting: Promise<void>[] = [];
    for (const record of services.store.relationships()) {
      if (record.role !== 'primary') continue;
      // Again, because the daemon may have died in the middle of it.
      if (record.state === 'SteppedDown') void this.#watch(record.id, (signal) => this.#stepDown(record.id, signal));
      else if (hostRestarted && record.autostart) {
        starting.push(this.#watch(record.id, (signal) => this.#startByPolicy(record.id, signal)));
      } else services.primaries.start(record.id);
    }
    // Only when all are decided: a daemon that dies before has the rest to decide still.
    void Promise.allSettled(starting).then(async () => {
      if (!this.#stop.signal.aborted) await writeFile(marker, '');
    });
  }

  /** Told when the peer refused our epoch: it holds the role, or held it and gave it back; or when a plan has stepped down. */
  roleLost(id: string): void {
    void this.#watch(id, async (signal) => {
      const { services } = this.#options;
      await services.primaries.stop(id);
      for (;;) {
        const record = recordOf(services, id);
        if (record.role !== 'primary') return;
        if (record.state === 'SteppedDown') return await this.#stepDown(id, signal);
        const status = await this.#ask(record, signal);
        // A plan that began meanwhile may have handed the role over itself: what that leaves is looked at when it has ended.
        const settled = status !== undefined && !this.#options.inAction(id);
        if (settled && judgePeer(record, status) === 'lost') return await this.#stepDown(id, signal);
        if (settled) return services.primaries.start(id); // it takes the higher epoch over
        await sleep(ASK_EVERY_MS, signal);
      }
    });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#watches.values());
  }

  #watch(id: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const present = this.#watches.get(id);
    if (present !== undefined) return present;
    const watch = this.#persevere(id, work, this.#stop.signal)
      .catch(() => undefined) // nothing but the daemon's end ends it this way
      .finally(() => this.#watches.delete(id));
    this.#watches.set(id, watch);
    return watch;
  }

  /** What fails is begun again: a role that nobody watches any more would wait for the next start of the daemon. */
  async #persevere(id: string, work: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        return await work(signal);
      } catch (error) {
        signal.throwIfAborted();
        if (this.#options.services.store.relationship(id) === undefined) return; // it was removed meanwhile
        this.#options.log.error({ relationship: id, err: asFailure(error) }, 'watching the role failed: trying again');
        await sleep(ASK_EVERY_MS, signal);
      }
    }
  }

  /** The other side failed over: our copy is paused and can't be started any more; its disks stay as they are. */
  async #stepDown(id: string, signal: AbortSignal): Promise<void> {
    await stepDown(this.#options.services, id);
    await this.#awaitReturn(id, signal);
  }

  /** Stepped down: until replication is reversed (we become the replica), or the failover is cancelled (we go on). */
  async #awaitReturn(id: string, signal: AbortSignal): Promise<void> {
    const { services } = this.#options;
    for (;;) {
      const record = services.store.relationship(id);
      if (record === undefined || record.state !== 'SteppedDown') return;
      const regained = await markStarting(services, id, async () => {
        const status = await this.#ask(record, signal);
        if (status === undefined || judgeAfterStepDown(record, status) === 'stay') return false;
        if (!(await mayRun(services, record))) return false;
        await this.#regain(record, status.epoch);
        return true;
      });
      if (regained) return;
      await sleep(ASK_EVERY_MS, signal);
    }
  }

  /** Noted last: a daemon that dies before does it again, and no VM stays paused. */
  async #regain(record: RelationshipRecord, epoch: number): Promise<void> {
    const { services } = this.#options;
    await defineRunnable(services, record);
    const vm = await services.hypervisor.vmStatus(record.vmId);
    if (vm.state === 'paused') {
      await services.hypervisor.setNetwork(record.vmId, 'as-defined');
      await services.hypervisor.resume(record.vmId);
    } else if (record.autostart || record.stoppedByLease === true) await services.hypervisor.start(record.vmId);
    move(services, record.id, 'role-regained', { epoch, failure: null, stoppedByLease: false });
    const text = `the failover on ${record.peer} was cancelled: this host holds the role again`;
    services.event(record.id, 'info', 'role-regained', text);
    services.primaries.start(record.id);
  }

  async #startByPolicy(id: string, signal: AbortSignal): Promise<void> {
    const { services, startPolicy, startPolicyMinutes } = this.#options;
    const asked = services.steady();
    for (let told = false; ; told = true) {
      const judged = await markStarting(services, id, async () => {
        const record = recordOf(services, id);
        const status = await this.#ask(record, signal);
        const waitedMs = services.steady() - asked;
        const policy = (record.leaseSeconds ?? 0) > 0 ? 'never-alone' : startPolicy;
        const judgement = judgeStart(record, status, { policy, waitedMs, patienceMs: startPolicyMinutes * 60_000 });
        if (judgement === 'start' && !(await mayRun(services, record))) return 'wait';
        if (judgement === 'start') {
          await this.#startVm(record, 'info', `${record.peer} has not taken over: starting the VM`);
        } else if (judgement === 'start-unknowing') {
          const text = `${record.peer} could not be asked for ${startPolicyMinutes} min: starting the VM without knowing whether it took over`;
          await this.#startVm(record, 'critical', text);
        }
        return judgement;
      });
      if (judged === 'step-down') return await this.#stepDown(id, signal);
      if (judged !== 'wait') return;
      if (!told) {
        const { vmName, peer } = recordOf(services, id);
        const text = `${vmName} is not started before ${peer} says that it has not taken over`;
        services.event(id, 'warning', 'start-held-back', text);
      }
      await sleep(ASK_EVERY_MS, signal);
    }
  }

  async #startVm(record: RelationshipRecord, severity: 'info' | 'critical', text: string): Promise<void> {
    const { services } = this.#options;
    services.event(record.id, severity, 'vm-started', text);
    await services.hypervisor.start(record.vmId);
    services.primaries.start(record.id);
  }

  /** Undefined when the peer can't be asked now. */
  async #ask(record: RelationshipRecord, signal: AbortSignal): Promise<ReplicaStatus | undefined> {
    try {
      return await this.#options.services.peer(record.peer).status(record.id, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#options.log.debug({ relationship: record.id, err: asFailure(error) }, 'the peer could not be asked');
      return undefined;
    }
  }
}

/** Of the marker in the run directory, which a boot empties. */
async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return false;
  }
}
