/**
 * Actions: plans that run in the background and are watched through the API. One that meets an obstacle is tried again until it
 * goes on, is taken back, or somebody cancels it; a restart of the daemon takes up what is left. An obstacle that only a person can
 * remove is an event, too.
 */
import { sleep } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import type { Severity } from '../store/store.ts';
import { retryDelay } from '../model/backoff.ts';
import { asFailure, Failure } from '../model/failure.ts';
import type { Journal } from '../journal/journal.ts';
import { hasEnded, type Plan, type PlanArgs } from '../journal/plan.ts';
import { cancelPlan, runPlan, type PlanDefinition } from '../journal/runner.ts';

/** Between tries of a plan that waits before an obstacle, s: as an interval for `retryDelay`. */
const PATIENCE_SECONDS = 5;

export interface ActionsOptions<C> {
  readonly journal: Journal;
  readonly definitions: readonly PlanDefinition<C>[];
  readonly context: C;
  readonly log: Log;
  /** Told of each obstacle that waits for a person, once. */
  readonly event: (relationship: string, severity: Severity, kind: string, message: string) => void;
}

export class Actions<C> {
  readonly #journal: Journal;
  readonly #definitions: ReadonlyMap<string, PlanDefinition<C>>;
  readonly #context: C;
  readonly #log: Log;
  readonly #event: ActionsOptions<C>['event'];
  readonly #stop = new AbortController();
  readonly #running = new Map<string, Promise<Plan>>();

  constructor(options: ActionsOptions<C>) {
    this.#journal = options.journal;
    this.#definitions = new Map(options.definitions.map((definition) => [definition.kind, definition]));
    this.#context = options.context;
    this.#log = options.log;
    this.#event = options.event;
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
    return await (this.#running.get(plan.id) ?? this.#run(plan));
  }

  /** Takes back the action that holds a relationship, where that is still possible. Failures as of `cancelPlan`. */
  async giveUp(relationship: string): Promise<Plan> {
    const plan = this.#journal.holder(relationship);
    if (plan === undefined) throw new Failure('wrong-state', 'no action is under way');
    const reason = new Failure('wrong-state', 'cancelled by an administrator');
    return await cancelPlan(this.#journal, this.#definition(plan.kind), plan, this.#context, reason, this.#stop.signal);
  }

  /**
   * Takes up everything that a former run left; what this one has begun goes on as it does. Resolves when each has ended or
   * met an obstacle once.
   */
  async takeUp(): Promise<void> {
    const first: Promise<void>[] = [];
    for (const plan of this.#journal.pending()) {
      if (this.#running.has(plan.id)) continue;
      this.#log.info({ plan: plan.id, kind: plan.kind }, 'taking up an action of a former run');
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#carryOn(plan, resolve);
      first.push(promise);
    }
    await Promise.all(first);
  }

  /** Lets nothing begin or be tried again any more; what is in the middle of a step is told, and waited for. */
  async close(): Promise<void> {
    this.#stop.abort(new Failure('interrupted', 'understudyd is ending; it goes on when it starts again'));
    await Promise.allSettled(this.#running.values());
  }

  /** Once for each plan, however often it is asked for. */
  #carryOn(plan: Plan, afterFirstTry: () => void = () => undefined): void {
    if (this.#running.has(plan.id)) return;
    const run = this.#untilEnd(plan, afterFirstTry).finally(() => this.#running.delete(plan.id));
    this.#running.set(plan.id, run);
    run.catch((error: unknown) => {
      const failure = asFailure(error);
      this.#log.warn({ plan: plan.id, kind: plan.kind, code: failure.code, err: failure.cause }, failure.message);
    });
  }

  async #run(plan: Plan): Promise<Plan> {
    return await runPlan(this.#journal, this.#definition(plan.kind), plan, this.#context, this.#stop.signal);
  }

  async #untilEnd(plan: Plan, afterFirstTry: () => void): Promise<Plan> {
    let told: string | undefined;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#run(plan);
      } catch (error) {
        const now = this.#journal.plan(plan.id);
        if (now === undefined || hasEnded(now) || this.#stop.signal.aborted) throw error;
        const { retry } = asFailure(error);
        told = this.#tell(now, told);
        const delay = retryDelay(retry === 'never' ? 'backoff' : retry, attempt, PATIENCE_SECONDS)!;
        afterFirstTry();
        await sleep(delay, this.#stop.signal);
      } finally {
        afterFirstTry();
      }
    }
  }

  /** Says what a person has to do, unless it was said before. Gives what was said last. */
  #tell({ kind, relationship, obstacle }: Plan, told: string | undefined): string | undefined {
    if (obstacle === null || obstacle.retry !== 'never' || obstacle.message === told) return told;
    this.#event(relationship, 'critical', 'action-held-up', `${kind} waits: ${obstacle.message}. ${obstacle.hint}`);
    return obstacle.message;
  }

  #definition(kind: string): PlanDefinition<C> {
    const definition = this.#definitions.get(kind);
    if (definition === undefined) throw new Failure('format-unknown', `no action of kind ${kind} is known`);
    return definition;
  }
}
