/** A plan: a change of several steps that is carried to its end, or taken back, whatever crashes in between. */
import { z } from 'zod';
import { Failure, isFailureCode, type FailureCode } from '../model/failure.ts';

const failureSchema = z.strictObject({
  code: z.custom<FailureCode>((value) => typeof value === 'string' && isFailureCode(value), 'not a known code'),
  message: z.string(),
  hint: z.string(),
  retry: z.enum(['backoff', 'space', 'never']),
});

const planSchema = z.strictObject({
  id: z.guid(),
  /** What it does: `failover-unplanned`. */
  kind: z.string().min(1),
  /** Relationship that it changes; only one plan at a time does. */
  relationship: z.string().min(1),
  /** What was asked for: as the steps need it, unchanged from beginning to end. */
  args: z.record(z.string(), z.json()),
  /** Steps in their order. While the plan is undone a step taken back is not done any more. */
  steps: z.array(z.strictObject({ name: z.string().min(1), done: z.boolean() })).min(1),
  /**
   * `running`: going forward. `undoing`: a step failed, what was done is being taken back. `done`, `undone`: ended.
   */
  state: z.enum(['running', 'undoing', 'done', 'undone']),
  /** Why it is or was undone; null for one that isn't. */
  failure: failureSchema.nullable(),
  /** What stands in the way of going on, forward or back; null when nothing does. The plan waits to be run again. */
  obstacle: failureSchema.nullable(),
  /** ms since the epoch. */
  started: z.number(),
  /** ms since the epoch; null before the end. */
  ended: z.number().nullable(),
});

/** As it is on the disk; never changed in place. */
export type Plan = Readonly<z.infer<typeof planSchema>>;
export type PlanArgs = Plan['args'];

export function hasEnded(plan: Plan): boolean {
  return plan.state === 'done' || plan.state === 'undone';
}

/** Index of the first step that isn't done: the one that is, or may be, half done. Number of steps when all are. */
export function frontier(plan: Plan): number {
  const index = plan.steps.findIndex((step) => !step.done);
  return index < 0 ? plan.steps.length : index;
}

/** The plan with its first `count` steps done and no other. */
export function withDone(plan: Plan, count: number): Plan {
  return { ...plan, obstacle: null, steps: plan.steps.map(({ name }, index) => ({ name, done: index < count })) };
}

/** Reads a plan's JSON; Failure `io` naming `path` when it isn't one. */
export function parsePlan(json: string, path: string): Plan {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new Failure('io', `the plan ${path} is not JSON`, { cause, hint: DAMAGED });
  }
  const result = planSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new Failure('io', `the plan ${path} is damaged: ${issue?.path.join('.')}: ${issue?.message}`, {
    hint: DAMAGED,
  });
}

const DAMAGED =
  'It is written whole or not at all, so something else damaged it. Find out from the events how far it came, finish by ' +
  'hand, and move the file away.';
