/**
 * Actions: plans that run in the background and are watched through the API. One that meets an obstacle is tried again until it
 * goes on, is taken back, or somebody cancels it; a restart of the daemon takes up what is left.
 */
import { sleep } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { retryDelay } from '../model/backoff.ts';
import { asFailure, Failure } from '../model/failure.ts';
import type { Journal } from '../journal/journal.ts';
import { hasEnded, type Plan, type PlanArgs } from '../journal/plan.ts';
import { cancelPlan, runPlan, type PlanDefinition } from '../journal/runner.ts';

/** Between tries of a plan that waits before an obstacle, s: as an interval for `retryDelay`. */
const PATIENCE_SECONDS = 5;

export class Actions<C> {
  readonly #journal: Journal;
  readonly #definitions: ReadonlyMap<string, PlanDefinition<C>>;
  readonly #context: C;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #running = new Map<string, Promise<Plan>>();

  constructor(options: { journal: Journal; definitions: readonly PlanDefinition<C>[]; context: C; log: Log }) {
    this.#journal = options.journal;
    this.#definitions = new Map(options.definitions.map((definition) => [definition.kind, definition]));
    this.#context = options.context;
    this.#log = options.log;
  }

  get journal(): Journal {
    return this.#journal;
  }

  /**
   * Begins an action; it goes on by itself. Failure `busy` while another holds the relationship.
   * @param id asked twice with the same id, it is the same action.
   */
  async begin(kind: string, relationship: string, args: PlanArgs, id?: string): Promise<Plan> {
    const definition = this.#definition(kind);
    const plan = await this.#journal.begin(definition, { relationship, args, ...(id === undefined ? {} : { id }) });
    if (!hasEnded(plan)) this.#carryOn(plan);
    return plan;
  }

  /** Begins an action and waits for its end. Throws the Failure that undid it. */
  async finish(kind: string, relationship: string, args: PlanArgs, id?: string): Promise<Plan> {
    const plan = await this.begin(kind, relationship, args, id);
    return await (this.#running.get(plan.id) ?? runPlan(this.#journal, this.#definition(kind), plan, this.#context));
  }

  /** Takes back the action that holds a relationship, where that is still possible. */
  async giveUp(relationship: string): Promise<Plan> {
    const plan = this.#journal.holder(relationship);
    if (plan === undefined) throw new Failure('wrong-state', 'no action is under way');
    const reason = new Failure('wrong-state', 'cancelled by an administrator');
    return await cancelPlan(this.#journal, this.#definition(plan.kind), plan, this.#context, reason);
  }

  /** Takes up everything that a former run left. Resolves when each has ended or met an obstacle once. */
  async takeUp(): Promise<void> {
    const first: Promise<void>[] = [];
    for (const plan of this.#journal.pending()) {
      this.#log.info({ plan: plan.id, kind: plan.kind }, 'taking up an action of a former run');
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#carryOn(plan, resolve);
      first.push(promise);
    }
    await Promise.all(first);
  }

  /** Lets nothing begin or be tried again any more; waits for what is in the middle of a step. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#running.values());
  }

  #carryOn(plan: Plan, afterFirstTry: () => void = () => undefined): void {
    const run = this.#untilEnd(plan, afterFirstTry).finally(() => {
      if (this.#running.get(plan.id) === run) this.#running.delete(plan.id); // it may have been asked for again
    });
    this.#running.set(plan.id, run);
    run.catch((error: unknown) => {
      const failure = asFailure(error);
      this.#log.warn({ plan: plan.id, kind: plan.kind, code: failure.code, err: failure.cause }, failure.message);
    });
  }

  async #untilEnd(plan: Plan, afterFirstTry: () => void): Promise<Plan> {
    const definition = this.#definition(plan.kind);
    for (let attempt = 1; ; attempt++) {
      try {
        return await runPlan(this.#journal, definition, plan, this.#context);
      } catch (error) {
        const now = this.#journal.plan(plan.id);
        if (now === undefined || hasEnded(now) || this.#stop.signal.aborted) throw error;
        const { retry } = asFailure(error);
        const delay = retryDelay(retry === 'never' ? 'backoff' : retry, attempt, PATIENCE_SECONDS)!;
        afterFirstTry();
        await sleep(delay, this.#stop.signal);
      } finally {
        afterFirstTry();
      }
    }
  }

  #definition(kind: string): PlanDefinition<C> {
    const definition = this.#definitions.get(kind);
    if (definition === undefined) throw new Failure('format-unknown', `no action of kind ${kind} is known`);
    return definition;
  }
}
