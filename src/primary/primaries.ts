/** The relationships for which this host is the primary, each with its loop. */
import type { Store } from '../store/store.ts';
import { ReplicationLoop, type LoopHooks } from './loop.ts';
import { Replication, type PrimaryServices } from './replication.ts';

export interface PrimariesOptions {
  readonly store: Store;
  /** What a relationship works with; called once each time its loop is made. */
  readonly services: (id: string) => PrimaryServices;
  readonly onRoleLost: (id: string) => void;
}

export class Primaries {
  readonly #options: PrimariesOptions;
  readonly #loops = new Map<string, ReplicationLoop>();

  constructor(options: PrimariesOptions) {
    this.#options = options;
  }

  /** The loop of a relationship, running or not. */
  loop(id: string): ReplicationLoop {
    let loop = this.#loops.get(id);
    if (loop === undefined) {
      const hooks: LoopHooks = { onRoleLost: () => this.#options.onRoleLost(id) };
      loop = new ReplicationLoop(new Replication(id, this.#options.services(id)), hooks);
      this.#loops.set(id, loop);
    }
    return loop;
  }

  /** Starts replicating, unless the relationship is suspended or its state doesn't call for it. */
  start(id: string): void {
    const record = this.#options.store.relationship(id);
    if (record === undefined || record.role !== 'primary' || record.suspended) return;
    if (!REPLICATING.has(record.state)) return;
    this.loop(id).start();
  }

  /** Ends the loop of a relationship; resolves when nothing of it is under way any more. */
  async stop(id: string): Promise<void> {
    await this.#loops.get(id)?.stop();
  }

  /** The role is over for good: the loop ends, and what was still to be sent goes. */
  async retire(id: string): Promise<void> {
    await this.stop(id);
    await this.loop(id).replication.services.outbox.clear();
  }

  /** The relationship ends: nothing of it stays here. */
  async forget(id: string): Promise<void> {
    await this.retire(id);
    await this.loop(id).replication.services.known.forget();
    this.#loops.delete(id);
  }

  /** A peer has answered: whoever waits to try it again does so now. */
  wake(peer: string): void {
    for (const loop of this.#loops.values()) {
      if (loop.running && loop.replication.record.peer === peer && loop.replication.record.failure !== null)
        loop.wake();
    }
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#loops.values()].map((loop) => loop.stop()));
  }
}

const REPLICATING = new Set([
  'ReadyForInitialReplication',
  'InitialReplicationInProgress',
  'Replicating',
  'CatchingUp',
  'WaitingForStartResynchronize',
  'Resynchronizing',
]);
