/** Says in words how far plans are. Reads only; needs no running service. */
import { readPlans } from './journal.ts';
import { frontier, hasEnded, type Plan } from './plan.ts';

export interface PlanReport {
  readonly id: string;
  /** One sentence: `failover-planned began at … and is at step 2 of 5 (send last log).` */
  readonly summary: string;
  readonly done: readonly string[];
  /** What is still to be done, or to be taken back, in its order. */
  readonly left: readonly string[];
}

export function describePlan(plan: Plan): PlanReport {
  const steps = plan.steps.map(({ name }) => name);
  const at = frontier(plan);
  const done = steps.slice(0, at);
  const left = plan.state === 'undoing' ? steps.slice(0, at + 1).toReversed() : hasEnded(plan) ? [] : steps.slice(at);
  const words = [`${plan.kind} began at ${new Date(plan.started).toISOString()}`, standing(plan, left)];
  const sentences = [`${words.join(' and ')}.`];
  if (plan.failure !== null) sentences.push(`It failed: ${plan.failure.message}.`);
  if (plan.obstacle !== null) sentences.push(`It waits: ${plan.obstacle.message}. ${plan.obstacle.hint}`);
  return { id: plan.id, summary: sentences.join(' '), done, left };
}

/** Every plan in a journal's directory that hasn't ended. Failure `io` naming a damaged one. */
export async function checkJournal(directory: string): Promise<PlanReport[]> {
  return (await readPlans(directory)).filter((plan) => !hasEnded(plan)).map(describePlan);
}

function standing(plan: Plan, left: readonly string[]): string {
  const total = plan.steps.length;
  const ended = plan.ended === null ? '' : ` at ${new Date(plan.ended).toISOString()}`;
  switch (plan.state) {
    case 'running':
      return left.length === 0
        ? 'has only to be closed'
        : `is at step ${total - left.length + 1} of ${total} (${left[0]})`;
    case 'undoing':
      return `is being taken back, with ${left.length} of ${total} steps to undo (next: ${left[0]})`;
    case 'done':
      return `was done${ended}`;
    case 'undone':
      return `was taken back${ended}`;
  }
}
