/**
 * Keeps the leases of the VMs that this host is the primary of (`fence: lease`): renews them, stops a VM whose lease is over, lets it go on.
 * Begins with the daemon, before its plans do: a VM runs on meanwhile. The guard, a process of its own, does the stopping when this one can't.
 */
import { sleep } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { listLeases } from '../failover/lease-note.ts';
import { keepLease, renewLease, wantsLease } from '../failover/lease.ts';
import type { FailoverServices } from '../failover/services.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { LEASE_SECONDS, LOOK_EVERY_MS } from '../model/lease.ts';

export interface LeaseKeeperOptions {
  readonly services: FailoverServices;
  readonly log: Log;
  /** Sees to it that the guard lives; called at each look while there is a lease. */
  readonly guard: () => Promise<void>;
}

/** Pause between two renewals, ms, and how long an answer is waited for: two tries fit into the shortest lease. */
const RENEW_EVERY_MS = LEASE_SECONDS.min * 200;
const PATIENCE_MS = LEASE_SECONDS.min * 250;

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #stop = new AbortController();
  readonly #looks = new Map<string, Promise<void>>();
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  begin(): void {
    const { signal } = this.#stop;
    this.#running = Promise.all([
      this.#every(LOOK_EVERY_MS, () => this.#lookAtAll(), signal),
      this.#every(RENEW_EVERY_MS, () => this.#renewAll(signal), signal),
    ]);
  }

  /** VMs go on; unless a daemon begins again before their leases are over, the guard stops them. */
  async close(): Promise<void> {
    this.#stop.abort(new Failure('interrupted', 'understudyd is ending'));
    await this.#running;
    await Promise.allSettled(this.#looks.values());
  }

  async #every(ms: number, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await work().catch((error: unknown) =>
        this.#options.log.error({ err: asFailure(error) }, 'keeping leases failed'),
      );
      await sleep(ms, signal).catch(() => undefined); // closed: the loop ends
    }
  }

  /** A look that hangs (libvirt may) keeps no other VM waiting. */
  async #lookAtAll(): Promise<void> {
    const { services, log, guard } = this.#options;
    const noted = await listLeases(services.leases.directory);
    if (noted.length > 0) await guard();
    for (const id of new Set([...noted, ...services.store.relationships().map((record) => record.id)])) {
      if (this.#looks.has(id)) continue;
      const look = keepLease(services, id)
        .catch((error: unknown) => log.error({ relationship: id, err: asFailure(error) }, 'keeping a lease failed'))
        .finally(() => this.#looks.delete(id));
      this.#looks.set(id, look);
    }
  }

  async #renewAll(signal: AbortSignal): Promise<void> {
    const { services, log } = this.#options;
    await Promise.all(
      services.store.relationships().map(async (record) => {
        if (!(await wantsLease(services, record))) return;
        try {
          await renewLease(services, record, AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]));
        } catch (error) {
          log.debug({ relationship: record.id, err: asFailure(error) }, 'the lease could not be renewed');
        }
      }),
    );
  }
}
