/**
 * The Replica VM's definition follows what its primary says of it, or keeps what its administrator has made of it, while this host is its
 * Replica server. What this host can't define is said; the VM stays as it was, and its data goes on.
 */
import { defineFollowing } from '../failover/definition.ts';
import { update } from '../failover/services.ts';
import { changesText, definitionChanges } from '../model/definition-changes.ts';
import { asFailure } from '../model/failure.ts';
import type { Replica } from '../replica/replica.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { Rounds } from './rounds.ts';
import type { DaemonServices } from './services.ts';

const EVERY_MS = 2000;
/** So often it is looked at what the Replica VM's administrator has done, and tried again what was refused, ms. */
const AGAIN_MS = 30_000;
const HOUR_MS = 60 * 60 * 1000;

interface Refusal {
  readonly definition: string;
  readonly message: string;
  /** ms of the steady clock. */
  readonly time: number;
}

export class Definitions {
  readonly #services: DaemonServices;
  readonly #rounds: Rounds;
  readonly #refusals = new Map<string, Refusal>();
  /** What the primary said last that an event has told of as not followed. */
  readonly #kept = new Map<string, string>();
  /** For which definition it was looked last what this host lacks, and when, ms of the steady clock. */
  readonly #judged = new Map<string, { readonly definition: string; readonly time: number }>();
  /** Replicas whose adapters have the names of this host's configuration. */
  readonly #mapped = new Set<string>();
  #ownDue = 0;

  constructor(services: DaemonServices) {
    this.#services = services;
    this.#rounds = new Rounds(EVERY_MS, () => this.look());
  }

  begin(): void {
    this.#rounds.begin();
  }

  async close(): Promise<void> {
    await this.#rounds.close();
  }

  /** Once over all replicas. Never rejects. */
  async look(): Promise<void> {
    const { store, replicas, steady, log } = this.#services;
    const ownDue = steady() >= this.#ownDue;
    if (ownDue) this.#ownDue = steady() + AGAIN_MS;
    for (const record of store.relationships()) {
      const replica = replicas.find(record.id);
      if (replica === undefined || !this.#isFree(record.id)) continue;
      try {
        if (record.definitionPolicy === 'keep' && ownDue) await this.#takeOwn(record, replica);
        await this.#take(record, replica);
        await this.#judge(record.id);
      } catch (error) {
        log.warn({ relationship: record.id, err: asFailure(error) }, 'the definition could not be looked at');
      }
    }
  }

  /** Whether this host is the VM's Replica server, and nothing is under way that decides about the VM. */
  #isFree(id: string): boolean {
    const { store, actions } = this.#services;
    const record = store.relationship(id);
    const isReplica = record?.role === 'replica' && record.state !== 'RecoveryInProgress' && record.failover === null;
    return isReplica && actions.journal.holder(id) === undefined;
  }

  async #take(record: RelationshipRecord, replica: Replica): Promise<void> {
    const { hypervisor, now, store } = this.#services;
    const { id, vmName, peer, definitionTaken: before, epoch } = record;
    const { networks } = this.#services.config;
    const known = before?.epoch === epoch ? before.definition : undefined;
    const definition = replica.record.received?.definition ?? known;
    if (definition === undefined || this.#isRefused(id, definition)) return;
    // Once after a start: the names in the configuration may be others than before.
    const isMapped = Object.keys(networks).length === 0 || this.#mapped.has(id);
    if (definition === before?.definition && before.again !== true && isMapped) return;
    if (record.definitionPolicy === 'keep' && this.#kept.get(id) === definition) return;
    if (record.definitionPolicy === 'keep') {
      this.#kept.set(id, definition);
      const last = await hypervisor.factsOf(before?.definition ?? record.definition);
      const changes = definitionChanges(last, await hypervisor.factsOf(definition));
      if (changes.length === 0) return;
      const text = `the definition of ${vmName} has changed on ${peer}: ${changesText(changes)}; the Replica VM here keeps its own`;
      return this.#services.event(id, 'warning', 'definition-kept', text);
    }
    const definitionTaken = { definition, epoch, time: now() };
    const previous = known === undefined ? {} : { previous: known };
    let own: string | undefined;
    const taken = (exported: string): void => {
      own = exported;
      // A disk that has come meanwhile was left out of it.
      const { disks, definitionTaken: latest } = store.relationship(id) ?? record;
      const again = disks.length !== record.disks.length && latest?.again === true ? { again: true as const } : {};
      update(this.#services, id, { definition: exported, definitionTaken: { ...definitionTaken, ...again } });
    };
    try {
      await defineFollowing(
        this.#services,
        record,
        { definition, networks, ...previous },
        { isFree: () => this.#isFree(id), taken },
      );
    } catch (error) {
      return this.#refuse(record, definition, error);
    }
    if (own === undefined) return;
    this.#refusals.delete(id);
    this.#mapped.add(id);
    if (this.#isFree(id)) await replica.setSettings({ definition: own });
    const followed = definitionChanges(await hypervisor.factsOf(record.definition), await hypervisor.factsOf(own));
    if (followed.length === 0) return;
    const text = `the Replica VM ${vmName} follows its definition on ${peer}: ${changesText(followed)}`;
    this.#services.event(id, 'info', 'definition-followed', text);
  }

  /** Looks at what the Replica VM would need here, when that has changed, and every hour. What is lacking is said when it comes and goes. */
  async #judge(id: string): Promise<void> {
    const { hypervisor, steady, store } = this.#services;
    const record = store.relationship(id);
    const known = this.#judged.get(id);
    if (record === undefined || (known?.definition === record.definition && steady() < known.time + HOUR_MS)) return;
    // Should that fail, it is looked again soon.
    this.#judged.set(id, { definition: record.definition, time: steady() - HOUR_MS + AGAIN_MS });
    const found = await hypervisor.lackingFor(record.definition);
    this.#judged.set(id, { definition: record.definition, time: steady() });
    noteLacking(this.#services, id, found);
  }

  #isRefused(id: string, definition: string): boolean {
    const known = this.#refusals.get(id);
    return known?.definition === definition && this.#services.steady() < known.time + AGAIN_MS;
  }

  #refuse({ id, vmName, peer }: RelationshipRecord, definition: string, error: unknown): void {
    const { message, code } = asFailure(error);
    const known = this.#refusals.get(id)?.message;
    this.#refusals.set(id, { definition, message, time: this.#services.steady() });
    if (known === message || code === 'libvirt-down') return;
    const text = `this host can't define ${vmName} as it is on ${peer} now: ${message}; the Replica VM stays as it was`;
    this.#services.event(id, 'critical', 'definition-refused', text);
  }

  /** What the administrator of this host has made of the Replica VM is what it runs by after a failover. */
  async #takeOwn(record: RelationshipRecord, replica: Replica): Promise<void> {
    const { hypervisor } = this.#services;
    const { id, vmId, vmName } = record;
    const definition = await hypervisor.exportDefinition(vmId);
    if (definition === record.definition) return;
    const changes = definitionChanges(
      await hypervisor.factsOf(record.definition),
      await hypervisor.factsOf(definition),
    );
    if (!this.#isFree(id)) return;
    update(this.#services, id, { definition });
    await replica.setSettings({ definition });
    if (changes.length === 0) return;
    const text = `the Replica VM ${vmName} was changed here, and stays so: ${changesText(changes)}`;
    this.#services.event(id, 'info', 'definition-own', text);
  }
}

/** What the Replica server of a VM lacks to run it, as it is known now on either host: said when it comes, changes and goes. */
export function noteLacking(services: DaemonServices, id: string, found: readonly string[]): void {
  const { lacking, store, config, event } = services;
  const record = store.relationship(id);
  const before = lacking.get(id) ?? [];
  lacking.set(id, found);
  if (record === undefined || found.join() === before.join()) return;
  const host = record.role === 'replica' ? config.name : record.peer;
  if (found.length > 0) {
    const text = `${host} lacks what ${record.vmName} needs to run there after a failover: ${found.join(', ')}`;
    event(id, 'critical', 'definition-lacking', text);
  } else event(id, 'info', 'definition-complete', `${host} has all that ${record.vmName} needs to run there`);
}
