/** Events: kept in the store, logged, and passed on to whoever follows them. */
import type { Log } from '../lib/log.ts';
import type { EventRecord, Severity, Store } from '../store/store.ts';

const LEVEL = { info: 'info', warning: 'warn', critical: 'error' } as const;

export class EventFeed {
  readonly #store: Store;
  readonly #log: Log;
  readonly #listeners = new Set<(event: EventRecord) => void>();

  constructor(store: Store, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  add(relationship: string | null, severity: Severity, kind: string, message: string): void {
    const event = this.#store.addEvent({ time: Date.now(), severity, relationship, kind, message });
    this.#log[LEVEL[severity]]({ relationship, event: kind }, message);
    for (const listener of this.#listeners) listener(event);
  }

  /** Calls back for each new event; gives the function that ends it. */
  listen(listener: (event: EventRecord) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
