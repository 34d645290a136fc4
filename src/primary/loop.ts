/**
 * Keeps one relationship going: agree with the replica, copy if that is due, then a cycle each interval; after a failure
 * wait and begin again at the agreement. Ends only when told to.
 */
import { pause, sleep } from '../lib/clock.ts';
import { Gate } from '../lib/gate.ts';
import { resyncFrom } from '../model/auto-resync.ts';
import { Retries } from '../model/backoff.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { nextCycle, phaseOf } from '../model/schedule.ts';
import type { RecoveryPoint } from '../model/relationship.ts';
import { yieldedUntil, yielding } from '../model/yielding.ts';
import { followDefinition } from './definition.ts';
import { attached, followDisks } from './disks.ts';
import { wantsDisks } from './joining.ts';
import { beginCatchUp } from './catch-up.ts';
import { runCopy } from './copy.ts';
import { stampAtRest } from './images.ts';
import { runCycle, type CycleResult } from './cycle.ts';
import { reconcile } from './reconcile.ts';
import { refusedLogs } from './refused-logs.ts';
import { addRepairs, hasRepairs } from './repairs.ts';
import type { Replication } from './replication.ts';
import { yieldToRevert } from './revert.ts';
import { whereVmIsGone } from './vm-gone.ts';
import { compare, isAsked, verifyAlone, wantsPoint } from './verify.ts';

/** What the next agreement heals by itself, by comparing both sides. */
const AGREEABLE: ReadonlySet<string> = new Set(['tracking-lost', 'not-following']);

/** Between two tries to compare, of which the first came to nothing, ms. */
const NOTHING_CAME_MS = 500;
/** So often it looks whether another program's job on the VM is over, ms. */
const JOB_LOOK_MS = 5000;
/** So often it looks whether a guest's agent has come, ms. */
const GUEST_LOOK_MS = 1000;
/** While it waits, it looks whether the host was suspended, or whether there is room again, ms. */
const LOOK_MS = 10_000;
/** What counts as more room: the outbox may take so many times as much. */
const MORE_ROOM = 1.1;
/** Two clocks that are read one after the other, and one of them in steps, differ by less, ms. */
const SUSPENDED_MS = 100;

export interface LoopHooks {
  /** The other side holds the role: called once, the loop has ended by itself. */
  readonly onRoleLost: (failure: Failure) => void;
}

export class ReplicationLoop {
  readonly replication: Replication;
  readonly #hooks: LoopHooks;
  readonly #gate = new Gate();
  #stop = new AbortController();
  #running: Promise<void> | undefined;
  #agreed = false;
  /** The VM was off at the last cycle and nothing had changed: while its images have this stamp, nothing has. */
  #quiet: string | undefined;

  constructor(replication: Replication, hooks: LoopHooks) {
    this.replication = replication;
    this.#hooks = hooks;
  }

  get running(): boolean {
    return this.#running !== undefined;
  }

  start(): void {
    if (this.#running !== undefined) return;
    this.#stop = new AbortController();
    this.#agreed = false;
    this.#running = this.#run(this.#stop.signal).finally(() => (this.#running = undefined));
  }

  /** Ends the loop between two awaits; what was under way is taken up by the next `start`. */
  async stop(): Promise<void> {
    this.#stop.abort(new Failure('interrupted', 'replication is stopping'));
    await this.#running;
    await this.replication.services.known.close();
  }

  /** Ends a wait: the peer is back, the VM has started, settings have changed. */
  wake(): void {
    this.replication.wake.call();
  }

  /**
   * With the loop stopped: agrees with the replica and runs single cycles until the last has been acknowledged. For a planned
   * failover, whose VM is off.
   */
  async cycleNow(kind: RecoveryPoint['kind'], signal: AbortSignal): Promise<CycleResult> {
    return this.#gate.run('cycle', async () => {
      this.replication.urgent = true;
      try {
        await reconcile(this.replication, signal);
        return await this.#close(kind, signal);
      } finally {
        this.replication.urgent = false;
        await this.replication.services.known.close();
      }
    });
  }

  async #run(signal: AbortSignal): Promise<void> {
    let lastStart: number | null = null;
    const retries = new Retries();
    let refused = 0;
    const { now, steady } = this.replication.services;
    while (!signal.aborted) {
      try {
        lastStart = await this.#gate.run('replication', () => this.#step(lastStart, signal));
        retries.reset();
        refused = 0;
      } catch (error) {
        if (signal.aborted) return;
        let failure = asFailure(error);
        if (failure.code === 'guest-starting') {
          lastStart = null;
          await this.#wait(steady() + GUEST_LOOK_MS, signal);
          continue;
        }
        this.#agreed = false;
        this.#quiet = undefined;
        if (failure.code === 'stale-epoch') {
          this.#hooks.onRoleLost(failure);
          return;
        }
        lastStart = null;
        if (failure.code === 'disks-changed') continue; // it is looked at anew at once
        const { statistics, intervalSeconds } = this.replication.record;
        // What only a person can heal is looked at again now and then: the person may have healed it.
        const look = Math.max(10_000, 2000 * intervalSeconds);
        if (failure.code === 'suspended') this.replication.trouble(failure);
        if (failure.code === 'suspended' || failure.code === 'resync-required') {
          const begins = resyncFrom(this.replication.record, now()) ?? Number.POSITIVE_INFINITY;
          await this.#wait(steady() + Math.min(look, begins - now()), signal);
          continue;
        }
        // Other programs have their turn, and nothing is wrong: only the lag counts.
        if (failure.code === 'yielded' || failure.code === 'job-conflict') {
          this.replication.trouble(failure);
          const until = yieldedUntil(this.replication.record, now()) ?? now() + JOB_LOOK_MS;
          await this.#wait(steady() + Math.min(look, until - now()), signal);
          continue;
        }
        this.replication.count({ failedCycles: statistics.failedCycles + 1 });
        failure = await whereVmIsGone(this.replication, failure);
        if (failure.code === 'bad-log') failure = refusedLogs(this.replication, failure, ++refused);
        this.replication.trouble(failure);
        const retry = AGREEABLE.has(failure.code) ? 'backoff' : failure.retry;
        const delay = retries.after(retry, intervalSeconds) ?? look;
        await this.#wait(steady() + delay, signal, retry === 'space' ? await this.#room() : undefined);
      }
    }
  }

  /** One thing that is due. Returns when the last cycle began. */
  async #step(lastStart: number | null, signal: AbortSignal): Promise<number | null> {
    const { replication } = this;
    const until = yieldedUntil(replication.record, replication.services.now());
    if (until !== undefined) throw yielding(replication.record.vmName, until);
    await yieldToRevert(replication);
    if (!this.#agreed) {
      await attached(replication);
      await reconcile(replication, signal);
      this.#agreed = true;
    }
    const { copy, intervalSeconds } = replication.record;
    const { now, steady } = replication.services;
    replication.due = steady();
    if (copy === null) {
      const { due, missed } = nextCycle(lastStart, intervalSeconds, phaseOf(replication.id), steady());
      replication.due = due;
      if (missed > 0) replication.count({ missedCycles: replication.record.statistics.missedCycles + missed });
      if (!(await this.#verifyUntil(due, signal))) await this.#wait(due, signal);
      if (signal.aborted) return lastStart;
    }
    const began = steady();
    const isQuiet = this.#quiet !== undefined && !wantsPoint(replication) && !wantsDisks(replication);
    if (isQuiet && (await stampAtRest(replication)) === this.#quiet) {
      await followDefinition(replication, signal);
      await this.#confirm(now(), signal);
      return began;
    }
    const had = hasRepairs(replication);
    const { stamp, read, damage } = await this.#close('crash-consistent', signal);
    this.#quiet = stamp;
    await this.#keepAutostart();
    addRepairs(replication, damage);
    if (read.length > 0) await compare(replication, read, replication.record.position, signal);
    // What was found now goes at once; if it doesn't help, at the pace of cycles.
    return !had && hasRepairs(replication) ? null : began;
  }

  /** Goes on with a pass that was asked for until a cycle is due, or wanted. @returns whether one is wanted now. */
  async #verifyUntil(due: number, signal: AbortSignal): Promise<boolean> {
    const { replication } = this;
    const { steady } = replication.services;
    let wanted = false;
    const endListening = replication.wake.listen(() => (wanted = true));
    try {
      while (!wanted && !signal.aborted && isAsked(replication) && !hasRepairs(replication) && steady() < due) {
        const went = await verifyAlone(replication, signal);
        if (!went) await sleep(NOTHING_CAME_MS, signal);
      }
    } finally {
      endListening();
    }
    return wanted || hasRepairs(replication);
  }

  /** A cycle; what doesn't fit one goes in slices first. */
  async #close(kind: RecoveryPoint['kind'], signal: AbortSignal): Promise<CycleResult> {
    const { replication } = this;
    for (;;) {
      await followDisks(replication);
      await followDefinition(replication, signal);
      try {
        await runCopy(replication, signal);
      } catch (error) {
        if (error instanceof Failure && error.code === 'disks-changed') continue;
        throw error;
      }
      try {
        return await runCycle(replication, kind, signal);
      } catch (error) {
        if (error instanceof Failure && error.code === 'disks-changed') continue;
        if (!(error instanceof Failure) || error.code !== 'too-much-at-once') throw error;
        await beginCatchUp(replication, error);
      }
    }
  }

  /**
   * libvirt must not start the VM after a boot, before it is known who holds the role: who turns autostart on gets the same
   * from the daemon.
   */
  async #keepAutostart(): Promise<void> {
    const { services, record } = this.replication;
    const { autostart } = await services.hypervisor.vmStatus(record.vmId);
    if (!autostart) return;
    this.replication.update({ autostart: true });
    await services.hypervisor.setAutostart(record.vmId, false);
    services.event(
      'info',
      'autostart-taken-over',
      `understudyd starts ${record.vmName} with its host, instead of libvirt`,
    );
  }

  async #confirm(instant: number, signal: AbortSignal): Promise<void> {
    const { services, record, id } = this.replication;
    const { damage = [] } = await services.endpoint.confirm(id, record.position, instant, signal);
    this.replication.update({ protectedUntil: instant, failure: null });
    this.replication.count({ idleCycles: record.statistics.idleCycles + 1 });
    addRepairs(this.replication, damage);
  }

  /** Tells whether there is more room on this host than there is now. */
  async #room(): Promise<() => Promise<boolean>> {
    const { outboxLimit } = this.replication.services;
    const now = await outboxLimit().catch(() => 0); // a full disk may fail in many ways
    return async () => (await outboxLimit().catch(() => 0)) > now * MORE_ROOM;
  }

  /**
   * Waits until a time of the steady clock, or until there is what is missing. Timers stand still while the host is suspended: so it is
   * looked at in between, and what fell due meanwhile is done as soon as the host is awake, once.
   */
  async #wait(due: number, signal: AbortSignal, isThere?: () => Promise<boolean>): Promise<void> {
    const { wake, services } = this.replication;
    const { steady, boot } = services;
    const awake = boot() - steady();
    let nudged = false;
    const endListening = wake.listen(() => (nudged = true)); // between two pieces, too
    try {
      while (!signal.aborted && !nudged) {
        const left = due - steady() - Math.max(0, boot() - steady() - awake - SUSPENDED_MS);
        if (left <= 0) break;
        await pause(Math.min(left, LOOK_MS), [wake], signal).catch(() => undefined); // stopped: the loop ends
        if ((await isThere?.()) === true) break;
      }
    } finally {
      endListening();
    }
  }
}
