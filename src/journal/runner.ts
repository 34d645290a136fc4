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
  /** @param signal aborts when the plan is given up, or the process ends: a step that waits for others listens to it. */
  run(context: C, plan: Plan, signal: AbortSignal): Promise<void>;
  /**
   * Takes back what `run` did, wholly, in part or not at all. Absent: there is nothing to take back.
   * @param signal aborts when the process ends.
   */
  undo?(context: C, plan: Plan, signal: AbortSignal): Promise<void>;
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
 * - the Failure that stands in the way (`plan.obstacle`): a step that stays, or an undo that failed. Run it again later;
 * - the reason of `signal`, or of the plan's being given up: it stays where it is.
 *
 * Crash points, for step S of kind K: `K:begun`, `K:S:before`, `K:S:after`, `K:S:written`, and, when undone,
 * `K:undoing`, `K:S:undo-before`, `K:S:undo-after`, `K:S:undo-written`.
 */
export async function runPlan<C>(
  journal: Journal,
  definition: PlanDefinition<C>,
  plan: Plan,
  context: C,
  signal: AbortSignal = new AbortController().signal,
): Promise<Plan> {
  return await (underWay(journal).get(plan.id)?.run ??
    alone(journal, plan, (now, givenUp) =>
      carryOn({ journal, definition, context, stop: signal, halt: AbortSignal.any([signal, givenUp]) }, now),
    ));
}

/**
 * Takes back a plan because somebody gave it up; `reason` becomes its failure. A step that is under way is told, and waited
 * for. Resolves when the plan is `undone`. Failures: `wrong-state` when it has ended or a final step has begun, or what stands in the
 * way of undoing.
 */
export async function cancelPlan<C>(
  journal: Journal,
  definition: PlanDefinition<C>,
  plan: Plan,
  context: C,
  reason: Failure,
  signal: AbortSignal = new AbortController().signal,
): Promise<Plan> {
  const present = underWay(journal).get(plan.id);
  if (present !== undefined) {
    requireWayBack(definition, journal.plan(plan.id) ?? plan);
    present.giveUp(reason);
    await present.run.catch(() => undefined); // the plan says what came of it
    const now = journal.plan(plan.id);
    if (now?.state === 'undone') return now;
  }
  return await alone(journal, plan, async (now, halt) => {
    requireWayBack(definition, now);
    const turned = now.state === 'running' ? await turn(journal, now, reason) : now;
    return await goBack({ journal, definition, context, stop: signal, halt }, turned);
  });
}

/** A plan that is being carried out now, or taken back. */
interface Run {
  readonly run: Promise<Plan>;
  readonly giveUp: (reason: Failure) => void;
}

const runs = new WeakMap<Journal, Map<string, Run>>();

/** Plans of a journal that are being carried out now: whoever asks a second time waits for the same run. */
function underWay(journal: Journal): Map<string, Run> {
  const known = runs.get(journal) ?? new Map<string, Run>();
  runs.set(journal, known);
  return known;
}

async function alone(
  journal: Journal,
  plan: Plan,
  work: (now: Plan, givenUp: AbortSignal) => Promise<Plan>,
): Promise<Plan> {
  const givenUp = new AbortController();
  const run = work(journal.plan(plan.id) ?? plan, givenUp.signal);
  underWay(journal).set(plan.id, { run, giveUp: (reason) => givenUp.abort(reason) });
  try {
    return await run;
  } finally {
    underWay(journal).delete(plan.id);
  }
}

interface Way<C> {
  readonly journal: Journal;
  readonly definition: PlanDefinition<C>;
  readonly context: C;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
  /** Aborts when the process ends, or the plan is given up. */
  readonly halt: AbortSignal;
}

async function carryOn<C>(way: Way<C>, plan: Plan): Promise<Plan> {
  let now = plan;
  if (!hasEnded(now)) requireSameSteps(way.definition, now);
  crashPoint(`${now.kind}:begun`);
  if (now.state === 'running') now = await goForward(way, now);
  if (now.state === 'undoing') now = await goBack(way, now);
  if (now.failure !== null) throw Failure.fromJson(now.failure);
  return now;
}

async function goForward<C>({ journal, definition, context, halt }: Way<C>, plan: Plan): Promise<Plan> {
  let now = plan;
  for (let index = frontier(now); index < definition.steps.length; index++) {
    const step = definition.steps[index]!;
    const point = `${plan.kind}:${step.name}`;
    halt.throwIfAborted();
    crashPoint(`${point}:before`);
    try {
      await step.run(context, now, halt);
    } catch (error) {
      if (halt.aborted) throw halt.reason; // what it failed of is that
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

async function goBack<C>({ journal, definition, context, stop }: Way<C>, plan: Plan): Promise<Plan> {
  let now = plan;
  // The step that failed may be half done: it comes first.
  for (let index = Math.min(frontier(now), definition.steps.length - 1); index >= 0; index--) {
    const step = definition.steps[index]!;
    const point = `${plan.kind}:${step.name}`;
    stop.throwIfAborted();
    crashPoint(`${point}:undo-before`);
    try {
      await step.undo?.(context, now, stop);
    } catch (error) {
      if (stop.aborted) throw stop.reason;
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

function requireWayBack<C>(definition: PlanDefinition<C>, plan: Plan): void {
  if (hasEnded(plan)) throw new Failure('wrong-state', `${title(plan)} has ended: ${plan.state}`);
  requireSameSteps(definition, plan);
  if (plan.state === 'running' && beyondFinal(definition, frontier(plan))) {
    throw new Failure('wrong-state', `${title(plan)} can only go forward now`);
  }
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
