import { IMAGE_OPERATIONS } from './images.ts';
import { NEIGHBOURS } from './neighbours.ts';
import { POWER } from './power.ts';
import type { Week } from './world.ts';

export interface Operation {
  readonly name: string;
  /** Whether what has changed is lost by it, so that both sides have to be compared. */
  readonly compares?: true;
  /** What a person does. Afterwards the VM runs, or boots. */
  readonly perform: (week: Week) => Promise<void>;
}

export const OPERATIONS: readonly Operation[] = [...POWER, ...IMAGE_OPERATIONS, ...NEIGHBOURS];

/** So many, in an order by chance in which each comes again only when all others have been. */
export function* inRandomOrder(random: (below: number) => number): Generator<Operation, never> {
  for (;;) {
    const left = [...OPERATIONS];
    while (left.length > 0) yield left.splice(random(left.length), 1)[0]!;
  }
}
