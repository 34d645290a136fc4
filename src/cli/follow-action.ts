import type { ActionView } from '../api/resources.ts';
import type { Sent } from '../api/contract.ts';
import { Failure } from '../model/failure.ts';
import { duration } from './words.ts';
import type { Session } from './session.ts';

type Action = Sent<ActionView>;
type Step = Action['steps'][number];

/**
 * Shows an action's steps until it ends, then `summary` (one line for people; the action itself for machines).
 * Throws the action's failure when it was undone. With `wait` false it only names the action.
 */
export async function followAction(
  session: Session,
  begun: Action,
  options: { wait: boolean; summary: (action: Action) => string },
): Promise<void> {
  const { client, output } = session;
  if (!options.wait) {
    output.result(begun, () => `begun: action ${begun.id} (follow it with \`understudy action watch ${begun.id}\`)`);
    return;
  }
  let last = begun;
  const shown = new Set<number>();
  for await (const action of client.stream('actionWatch', { action: begun.id })) {
    last = action;
    output.draw('\r\x1b[K');
    for (const [index, step] of action.steps.entries()) {
      if (shown.has(index) || (step.state !== 'done' && step.state !== 'failed')) continue;
      shown.add(index);
      output.note(stepLine(session, step));
    }
    if (!hasEnded(action)) output.draw(runningLine(session, action));
  }
  if (!hasEnded(last)) throw new Failure('interrupted', `The action ${last.id} could not be followed to its end`);
  output.result(last, () => (last.state === 'done' ? options.summary(last) : ''));
  if (last.state === 'undone') throw failureOf(last);
}

const hasEnded = (action: Action): boolean => action.state === 'done' || action.state === 'undone';

function failureOf(action: Action): Failure {
  return action.failure === null
    ? new Failure('internal', `The action ${action.id} was undone without a reason`)
    : Failure.fromJson(action.failure);
}

function stepLine({ output }: Session, step: Step): string {
  const mark = step.state === 'done' ? output.paint('green', 'done  ') : output.paint('red', 'failed');
  const took = step.startedAt === null || step.endedAt === null ? '' : duration(step.endedAt - step.startedAt);
  const tail = [took, step.detail ?? ''].filter((text) => text !== '').join(', ');
  return `${mark}  ${step.title}${tail === '' ? '' : output.paint('dim', ` (${tail})`)}`;
}

function runningLine({ output }: Session, action: Action): string {
  const step = action.steps.find(({ state }) => state === 'running');
  const what = action.state === 'undoing' ? 'being undone' : (step?.title ?? 'waiting');
  const detail = action.obstacle?.message ?? step?.detail ?? '';
  return `${output.paint('cyan', '...   ')}  ${what}${detail === '' ? '' : output.paint('dim', ` (${detail})`)}`;
}
