/**
 * Who may run a VM, as far as two hosts can know (design, invariant 6). Only a person's failover changes it; here is what each
 * side does when it learns of one, and what a host does with its protected VMs when it starts.
 */
import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { asFailure } from '../model/failure.ts';
import { defineLocked, defineRunnable } from '../failover/definition.ts';
import { move, recordOf, type FailoverServices } from '../failover/services.ts';
import { judgeAfterStepDown, judgePeer, judgeStart, type StartPolicy } from '../model/role.ts';
import type { ReplicaStatus } from '../protocol/endpoint.ts';
import type { RelationshipRecord } from '../store/store.ts';

export interface RolesOptions {
  readonly services: FailoverServices;
  readonly log: Log;
  readonly runDirectory: string;
  readonly startPolicy: StartPolicy;
  readonly startPolicyMinutes: number;
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
      if (record.state === 'SteppedDown') void this.#watch(record.id, (signal) => this.#awaitReturn(record.id, signal));
      else if (hostRestarted && record.autostart) {
        starting.push(this.#watch(record.id, (signal) => this.#startByPolicy(record.id, signal)));
      } else services.primaries.start(record.id);
    }
    // Only when all are decided: a daemon that dies before has the rest to decide still.
    void Promise.allSettled(starting).then(async () => {
      if (!this.#stop.signal.aborted) await writeFile(marker, '');
    });
  }

  /** Told when the peer refused our epoch: it holds the role, or held it and gave it back. */
  roleLost(id: string): void {
    void this.#watch(id, async (signal) => {
      const { services } = this.#options;
      await services.primaries.stop(id);
      for (;;) {
        const record = recordOf(services, id);
        const status = await this.#ask(record);
        if (status !== undefined && judgePeer(record, status) === 'lost') return await this.#stepDown(id, signal);
        if (status !== undefined) return services.primaries.start(id); // it takes the higher epoch over
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
    const { log } = this.#options;
    const watch = work(this.#stop.signal)
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted)
          log.error({ relationship: id, err: asFailure(error) }, 'watching the role failed');
      })
      .finally(() => this.#watches.delete(id));
    this.#watches.set(id, watch);
    return watch;
  }

  /** The other side failed over: our copy is paused and can't be started any more; its disks stay as they are. */
  async #stepDown(id: string, signal: AbortSignal): Promise<void> {
    const { services } = this.#options;
    for (;;) {
      try {
        await stepDown(services, id);
        break;
      } catch (error) {
        this.#options.log.error({ relationship: id, err: asFailure(error) }, 'stepping down: trying again');
        await sleep(1000, signal);
      }
    }
    await this.#awaitReturn(id, signal);
  }

  /** Stepped down: until replication is reversed (we become the replica), or the failover is cancelled (we go on). */
  async #awaitReturn(id: string, signal: AbortSignal): Promise<void> {
    const { services } = this.#options;
    for (;;) {
      const record = services.store.relationship(id);
      if (record === undefined || record.state !== 'SteppedDown') return;
      const status = await this.#ask(record);
      if (status !== undefined && judgeAfterStepDown(record, status) === 'regain') {
        await this.#regain(record, status.epoch);
        return;
      }
      await sleep(ASK_EVERY_MS, signal);
    }
  }

  async #regain(record: RelationshipRecord, epoch: number): Promise<void> {
    const { services } = this.#options;
    await defineRunnable(services, record);
    move(services, record.id, 'role-regained', { epoch, failure: null });
    const vm = await services.hypervisor.getVm(record.vmId);
    if (vm.state === 'paused') await services.hypervisor.resume(record.vmId);
    else if (record.autostart) await services.hypervisor.start(record.vmId);
    const text = `the failover on ${record.peer} was cancelled: this host holds the role again`;
    services.event(record.id, 'info', 'role-regained', text);
    services.primaries.start(record.id);
  }

  async #startByPolicy(id: string, signal: AbortSignal): Promise<void> {
    const { services, startPolicy: policy, startPolicyMinutes } = this.#options;
    const asked = services.now();
    for (let told = false; ; told = true) {
      const record = recordOf(services, id);
      const status = await this.#ask(record);
      const waitedMs = services.now() - asked;
      switch (judgeStart(record, status, { policy, waitedMs, patienceMs: startPolicyMinutes * 60_000 })) {
        case 'not-ours':
          return;
        case 'step-down':
          return await this.#stepDown(id, signal);
        case 'start':
          return await this.#startVm(record, 'info', `${record.peer} has not taken over: starting the VM`);
        case 'start-unknowing': {
          const text = `${record.peer} could not be asked for ${startPolicyMinutes} min: starting the VM without knowing whether it took over`;
          return await this.#startVm(record, 'critical', text);
        }
        case 'wait':
          if (!told) {
            const text = `${record.vmName} is not started before ${record.peer} says that it has not taken over`;
            services.event(id, 'warning', 'start-held-back', text);
          }
          await sleep(ASK_EVERY_MS, signal);
      }
    }
  }

  async #startVm(record: RelationshipRecord, severity: 'info' | 'critical', text: string): Promise<void> {
    const { services } = this.#options;
    services.event(record.id, severity, 'vm-started', text);
    await services.hypervisor.start(record.vmId);
    services.primaries.start(record.id);
  }

  /** Undefined when the peer can't be asked now. */
  async #ask(record: RelationshipRecord): Promise<ReplicaStatus | undefined> {
    try {
      return await this.#options.services.peer(record.peer).status(record.id);
    } catch (error) {
      this.#options.log.debug({ relationship: record.id, err: asFailure(error) }, 'the peer could not be asked');
      return undefined;
    }
  }
}

/** Idempotent: pauses a running VM, locks its definition, and remembers. */
export async function stepDown(services: FailoverServices, id: string): Promise<void> {
  const record = recordOf(services, id);
  const vm = await services.hypervisor.getVm(record.vmId);
  const wasRunning = vm.state === 'running';
  if (wasRunning) await services.hypervisor.suspend(record.vmId);
  await defineLocked(services, record);
  move(services, id, 'role-lost', { inFlight: null });
  const text = wasRunning
    ? `${record.peer} has taken over while ${record.vmName} ran here: it is paused, its disks are kept`
    : `${record.peer} has taken over: ${record.vmName} can't be started here any more, its disks are kept`;
  services.event(id, wasRunning ? 'critical' : 'warning', 'stepped-down', text);
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
