/** The journal of a host in the explored world; the runner over it is the real one. */
import { Failure } from '../../src/model/failure.ts';
import type { Journal } from '../../src/journal/journal.ts';
import { hasEnded, type Plan, type PlanArgs } from '../../src/journal/plan.ts';
import { Paused, type Life } from './run.ts';

type Steps = { readonly kind: string; readonly steps: readonly { readonly name: string }[] };

export class ModelJournal {
  readonly #life: Life;
  /** Whether a plan pauses after each step, so that others can act in between. */
  stepwise = false;

  constructor(life: Life) {
    this.#life = life;
  }

  /** As the runner and the daemon's operations take it. */
  get real(): Journal {
    return this as unknown as Journal;
  }

  plan(id: string): Plan | undefined {
    return this.#life.here.plans.find((plan) => plan.id === id);
  }

  plans(): Plan[] {
    return [...this.#life.here.plans];
  }

  pending(): Plan[] {
    return this.plans().filter((plan) => !hasEnded(plan));
  }

  holder(): Plan | undefined {
    return this.pending()[0];
  }

  async begin({ kind, steps }: Steps, request: { relationship: string; args: PlanArgs; id?: string }): Promise<Plan> {
    const id = request.id ?? crypto.randomUUID();
    const known = this.plan(id);
    if (known !== undefined) return known;
    const holder = this.holder();
    if (holder !== undefined) throw new Failure('busy', `${holder.kind} is under way`);
    const { relationship, args } = request;
    const plan: Plan = {
      id,
      kind,
      relationship,
      args: structuredClone(args),
      steps: steps.map(({ name }) => ({ name, done: false })),
      state: 'running',
      failure: null,
      obstacle: null,
      started: 0,
      ended: null,
    };
    this.#write(plan, `note the plan ${kind}`);
    return plan;
  }

  async put(plan: Plan): Promise<Plan> {
    const moved = JSON.stringify(plan) !== JSON.stringify(this.plan(plan.id));
    this.#write(plan, `note where ${plan.kind} stands`);
    if (moved && this.stepwise && !hasEnded(plan)) throw new Paused();
    return plan;
  }

  #write(plan: Plan, words: string): void {
    const { here } = this.#life;
    this.#life.effect(words);
    const rest = here.plans.filter(({ id }) => id !== plan.id);
    here.plans = [...rest, plan];
    this.#life.changed();
  }
}
