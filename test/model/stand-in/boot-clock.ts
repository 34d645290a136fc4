/** Stands in for `lib/boot-clock.ts`: time goes on when the explorer says so. */
import { onStage } from '../stage.ts';

/** What names another boot, `powerOff` has written there. */
export function bootId(): string {
  return 'this boot';
}

export function bootNow(): number {
  return onStage().run.world.clock;
}
