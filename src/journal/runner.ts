/**
 * Carries plans out. A step may be run again after a crash that came before its end was written down, so it must be
 * idempotent; so must its undo, which is also called for a step that was only half done, or not at all.
 */
import { crashPoint } from '../lib/crash-point.ts';
import { asFailure, Failure } from '../model/failure.ts';
import type { Journal } from './journal.ts';
import { frontier, hasEnded, withDone, type Plan } from './plan.ts';

export interface PlanStep<C> {
  readonly name: string;
  run(context: C, plan: Plan): Promise<void>;
  /** Takes back what `run` did, wholly, in part or not at all. Absent: there is nothing to take back. */
  undo?(context: C, plan: Plan): Promise<void>;
  /**
   * When it fails: `undo` takes the plan back (the default), `stay` leaves it where it is, to be run again; or a choice by
   * what failed.
   */
  readonly onFailure?: 'undo' | 'stay' | ((failure: Failure) => 'undo' | 'stay');
  /** Once begun it can't be taken back, nor can anything before it: from here on the plan only goes forward. */
  readonly final?: boolean;
}

export interface PlanDefinition<C> {
  /** Names the plan, in files, in the API and in crash points: `failover-planned`. Never changed once released. */
  readonly kind: string;
  readonly steps: readonly PlanStep<C>[];
}

/**
 * Carries a plan on from where it is, to its end. Resolves with the plan when it is done. Throws
 * - the Failure that undid it, once all is taken back (the plan is `undone`), now or in an earlier run;
 * - the Failure that stands in the way (`plan.obstacle`): a step that stays, or an undo that failed. Run it again later.
 *
 * Crash points, for step S of kind K: `K:begun`, `K:S:before`, `K:S:after`, `K:S:written`, and, when undone,
 * `K:undoing`, `K:S:undo-before`, `K:S:undo-after`, `K:S:undo-written`.
 */
export async function runPlan<C>(
  journal: Journal,
  definition: PlanDefinition<C>,
  plan: Plan,
  context: C,
): Promise<Plan> {
  return await (underWay(journal).get(plan.id) ??
    alone(journal, plan, (now) => carryOn(journal, definition, now, context)));
}

/**
 * Takes back a plan that stays before an obstacle, because somebody gave it up; `reason` becomes its failure. Resolves
 * when it is `undone`. Failures: `wrong-state` when it has ended or a final step has begun, `busy` while it runs, or
 * what stands in the way of undoing.
 */
export async function cancelPlan<C>(
  journal: Journal,
  definition: PlanDefinition<C>,
  plan: Plan,
  context: C,
  reason: Failure,
): Promise<Plan> {
  if (underWay(journal).has(plan.id)) throw new Failure('busy', `${title(plan)} is running`);
  return await alone(journal, plan, async (now) => {
    if (hasEnded(now)) throw new Failure('wrong-state', `${title(now)} has ended: ${now.state}`);
    requireSameSteps(definition, now);
    if (now.state === 'running' && beyondFinal(definition, frontier(now))) {
      throw new Failure('wrong-state', `${title(now)} can only go forward now`);
    }
    return await goBack(journal, definition, now.state === 'running' ? await turn(journal, now, reason) : now, context);
  });
}

const runs = new WeakMap<Journal, Map<string, Promise<Plan>>>();

/** Plans of a journal that are being carried out now: whoever asks a second time waits for the same run. */
function underWay(journal: Journal): Map<string, Promise<Plan>> {
  const known = runs.get(journal) ?? new Map<string, Promise<Plan>>();
  runs.set(journal, known);
  return known;
}

async function alone(journal: Journal, plan: Plan, work: (now: Plan) => Promise<Plan>): Promise<Plan> {
  const run = work(journal.plan(plan.id) ?? plan);
  underWay(journal).set(plan.id, run);
  try {
    return await run;
  } finally {
    underWay(journal).delete(plan.id);
  }
}

async function carryOn<C>(journal: Journal, definition: PlanDefinition<C>, plan: Plan, context: C): Promise<Plan> {
  let now = plan;
  if (!hasEnded(now)) requireSameSteps(definition, now);
  crashPoint(`${now.kind}:begun`);
  if (now.state === 'running') now = await goForward(journal, definition, now, context);
  if (now.state === 'undoing') now = await goBack(journal, definition, now, context);
  if (now.failure !== null) throw Failure.fromJson(now.failure);
  return now;
}

async function goForward<C>(journal: Journal, definition: PlanDefinition<C>, plan: Plan, context: C): Promise<Plan> {
  let now = plan;
  for (let index = frontier(now); index < definition.steps.length; index++) {
    const step = definition.steps[index]!;
    const point = `${plan.kind}:${step.name}`;
    crashPoint(`${point}:before`);
    try {
      await step.run(context, now);
    } catch (error) {
      const failure = asFailure(error);
      const choice = typeof step.onFailure === 'function' ? step.onFailure(failure) : step.onFailure;
      if (choice === 'stay' || beyondFinal(definition, index)) return await stay(journal, now, failure);
      return await turn(journal, now, failure);
    }
    crashPoint(`${point}:after`);
    now = await journal.put(withDone(now, index + 1));
    crashPoint(`${point}:written`);
  }
  return await journal.put({ ...now, state: 'done' });
}

async function goBack<C>(journal: Journal, definition: PlanDefinition<C>, plan: Plan, context: C): Promise<Plan> {
  let now = plan;
  // The step that failed may be half done: it comes first.
  for (let index = Math.min(frontier(now), definition.steps.length - 1); index >= 0; index--) {
    const step = definition.steps[index]!;
    const point = `${plan.kind}:${step.name}`;
    crashPoint(`${point}:undo-before`);
    try {
      await step.undo?.(context, now);
    } catch (error) {
      return await stay(journal, now, asFailure(error));
    }
    crashPoint(`${point}:undo-after`);
    now = await journal.put(withDone(now, index));
    crashPoint(`${point}:undo-written`);
  }
  return await journal.put({ ...now, state: 'undone' });
}

async function stay(journal: Journal, plan: Plan, failure: Failure): Promise<never> {
  await journal.put({ ...plan, obstacle: failure.toJSON() });
  throw failure;
}

async function turn(journal: Journal, plan: Plan, failure: Failure): Promise<Plan> {
  const now = await journal.put({ ...plan, state: 'undoing', failure: failure.toJSON(), obstacle: null });
  crashPoint(`${plan.kind}:undoing`);
  return now;
}

/** Whether a final step is begun, when the step at `index` is. */
function beyondFinal<C>(definition: PlanDefinition<C>, index: number): boolean {
  return definition.steps.some((step, at) => step.final === true && at <= index);
}

function title(plan: Plan): string {
  return `${plan.kind} (plan ${plan.id})`;
}

function requireSameSteps<C>(definition: PlanDefinition<C>, plan: Plan): void {
  const names = (steps: readonly { readonly name: string }[]) => steps.map(({ name }) => name).join(', ');
  if (plan.kind === definition.kind && names(plan.steps) === names(definition.steps)) return;
  throw new Failure(
    'format-unknown',
    `${title(plan)} has the steps ${names(plan.steps)}; this version knows ${definition.kind}: ${names(definition.steps)}`,
    { hint: 'Finish the plan with the version of understudy that began it.' },
  );
}
