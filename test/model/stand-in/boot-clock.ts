/** Stands in for `lib/boot-clock.ts`: time goes on when the explorer says so. */
import { onStage } from '../stage.ts';

export function bootNow(): number {
  return onStage().run.world.clock;
}
