import { randomUUID } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory, removeDurably, writeAtomic } from '../lib/atomic-file.ts';
import type { Now } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';
import { hasEnded, parsePlan, type Plan, type PlanArgs } from './plan.ts';

/** Ended plans that are kept for whoever asks how they went; older ones are removed. */
const ENDED_KEPT = 100;

/** The plans of a host, one JSON file each, durable before anything is done by them. One process has it open. */
export class Journal {
  readonly directory: string;
  readonly #now: Now;
  readonly #plans = new Map<string, Plan>();
  /** Plans whose first write is under way. */
  readonly #beginning = new Map<string, Promise<Plan>>();
  readonly #listeners = new Set<(plan: Plan) => void>();

  private constructor(directory: string, now: Now) {
    this.directory = directory;
    this.#now = now;
  }

  /** Opens the journal, makes its directory if need be. Failure `io` naming the file when a plan is damaged. */
  static async open(directory: string, now: Now = Date.now): Promise<Journal> {
    await makeDirectory(directory, 0o700);
    const journal = new Journal(directory, now);
    for (const plan of await readPlans(directory)) journal.#plans.set(plan.id, plan);
    for (const name of await readdir(directory)) {
      if (name.endsWith('.tmp')) await rm(join(directory, name), { force: true }); // a write that a crash cut short
    }
    return journal;
  }

  /** By its id, ended or not. */
  plan(id: string): Plan | undefined {
    return this.#plans.get(id);
  }

  /** Every plan that is known, oldest first. */
  plans(): Plan[] {
    return [...this.#plans.values()].toSorted((a, b) => a.started - b.started);
  }

  /** Plans that haven't ended, oldest first: what a restart has to finish. */
  pending(): Plan[] {
    return this.plans().filter((plan) => !hasEnded(plan));
  }

  /** The plan that holds a relationship. */
  holder(relationship: string): Plan | undefined {
    return this.pending().find((plan) => plan.relationship === relationship);
  }

  /**
   * Begins a plan: it is durable when this resolves, and holds its relationship until it ends. The same `id` again
   * gives the plan that has it, however far it is. Failure `busy` names the plan that holds the relationship.
   */
  async begin(
    definition: { readonly kind: string; readonly steps: readonly { readonly name: string }[] },
    request: { relationship: string; args: PlanArgs; id?: string },
  ): Promise<Plan> {
    const id = request.id ?? randomUUID();
    const known = this.#beginning.get(id) ?? this.#plans.get(id);
    if (known !== undefined) return await known;
    const holder = this.holder(request.relationship);
    if (holder !== undefined) {
      const since = new Date(holder.started).toISOString();
      throw new Failure('busy', `${holder.kind} (plan ${holder.id}) is under way since ${since}`);
    }
    const plan: Plan = {
      id,
      kind: definition.kind,
      relationship: request.relationship,
      args: structuredClone(request.args),
      steps: definition.steps.map(({ name }) => ({ name, done: false })),
      state: 'running',
      failure: null,
      obstacle: null,
      started: this.#now(),
      ended: null,
    };
    this.#plans.set(id, plan); // at once: from here on nobody else gets the relationship
    const written = this.put(plan);
    this.#beginning.set(id, written);
    try {
      return await written;
    } catch (error) {
      this.#plans.delete(id);
      throw error;
    } finally {
      this.#beginning.delete(id);
    }
  }

  /** Makes a new state of a plan durable, then tells the observers. For the runner. */
  async put(plan: Plan): Promise<Plan> {
    const next = hasEnded(plan) && plan.ended === null ? { ...plan, ended: this.#now() } : plan;
    await writeAtomic(join(this.directory, `${next.id}.json`), `${JSON.stringify(next, null, 2)}\n`);
    this.#plans.set(next.id, next);
    for (const listener of this.#listeners) listener(next);
    if (hasEnded(next)) await this.#forgetOldest();
    return next;
  }

  /** Calls `listener` with each new state of any plan; gives the function that ends it. */
  onProgress(listener: (plan: Plan) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async #forgetOldest(): Promise<void> {
    const ended = this.plans().filter(hasEnded);
    for (const plan of ended.slice(0, Math.max(0, ended.length - ENDED_KEPT))) {
      await removeDurably(join(this.directory, `${plan.id}.json`));
      this.#plans.delete(plan.id);
    }
  }
}

/** The plans in a journal's directory, as they are on the disk; changes nothing. Failure `io` naming a damaged one. */
export async function readPlans(directory: string): Promise<Plan[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.json'));
  const plans: Plan[] = [];
  for (const name of names.toSorted()) {
    const path = join(directory, name);
    plans.push(parsePlan(await readFile(path, 'utf8'), path));
  }
  return plans;
}
