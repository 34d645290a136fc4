/** Stands in for `lib/clock.ts`: to sleep is to let the others act. */
import { onStage } from '../stage.ts';
import { Paused } from '../run.ts';

/** Nobody sleeps through it: whoever catches what ends a sleep is paused as well. */
class Sleep extends Promise<never> {
  override catch(): never {
    throw new Paused();
  }
}

export function sleep(): Promise<void> {
  const { run } = onStage();
  const host = run.under.at(-1)?.host;
  if (host !== undefined) run.world.hosts[host].memory.asleep = true;
  const slept = new Sleep((_resolve, reject) => reject(new Paused()));
  void slept.then(undefined, () => undefined); // whoever forgets about it isn't paused by it
  return slept;
}

/** Nobody calls meanwhile: who acts then is another. */
export const pause = sleep;

export async function until(): Promise<never> {
  throw new Paused();
}
