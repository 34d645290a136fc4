import type { EventRecord, PeerRecord, RelationshipRecord, Store } from '../store.ts';

/** Older events are forgotten. */
const EVENTS_KEPT = 100_000;

/** The store in this process's memory: for tests and tools. Gone when it is. */
export class MemoryStore implements Store {
  readonly #relationships = new Map<string, RelationshipRecord>();
  readonly #peers = new Map<string, PeerRecord>();
  readonly #settings = new Map<string, string>();
  #events: EventRecord[] = [];
  #lastEvent = 0;

  relationships(): RelationshipRecord[] {
    return structuredClone([...this.#relationships.values()]);
  }

  relationship(id: string): RelationshipRecord | undefined {
    return structuredClone(this.#relationships.get(id));
  }

  putRelationship(record: RelationshipRecord): void {
    this.#relationships.set(record.id, structuredClone(record));
  }

  deleteRelationship(id: string): void {
    this.#relationships.delete(id);
  }

  peers(): PeerRecord[] {
    return structuredClone([...this.#peers.values()]);
  }

  peer(name: string): PeerRecord | undefined {
    return structuredClone(this.#peers.get(name));
  }

  putPeer(record: PeerRecord): void {
    this.#peers.set(record.name, structuredClone(record));
  }

  deletePeer(name: string): void {
    this.#peers.delete(name);
  }

  setting(key: string): string | undefined {
    return this.#settings.get(key);
  }

  setSetting(key: string, value: string): void {
    this.#settings.set(key, value);
  }

  addEvent(event: Omit<EventRecord, 'id'>): EventRecord {
    const record = { ...event, time: Math.round(event.time), id: ++this.#lastEvent };
    this.#events.push(record);
    if (record.id % 100 === 0) this.#events = this.#events.slice(-EVENTS_KEPT);
    return { ...record };
  }

  events(options: { relationship?: string; before?: number; limit: number }): EventRecord[] {
    const { relationship, before = Number.MAX_SAFE_INTEGER, limit } = options;
    return this.#events
      .filter((event) => event.id < before && (relationship === undefined || event.relationship === relationship))
      .toReversed()
      .slice(0, limit)
      .map((event) => ({ ...event }));
  }

  close(): void {
    // memory needs no closing, and a test may still look at what was stored
  }
}
