/** What a part of the bench is and what it gives. */
import type { Corpus } from './images/corpus.ts';
import type { Place } from './rig/place.ts';
import type { Summary } from './measure/samples.ts';

export interface Bench {
  readonly place: Place;
  /** Where images are kept from run to run. */
  readonly images: string;
  readonly corpus: Corpus;
  /** The full form: sizes as in the targets, at least five rounds. */
  readonly full: boolean;
  readonly rounds: number;
  readonly say: (line: string) => void;
}

export interface Part {
  readonly name: string;
  readonly title: string;
  run(bench: Bench): Promise<readonly Row[]>;
}

/** What a row must show. `of`: what is compared with the limit, the ratio to the peer or the row's own median. */
export interface Target {
  readonly of: 'ratio' | 'value';
  readonly bound: 'at least' | 'at most';
  readonly limit: number;
}

/** One line of the table. */
export interface Row {
  readonly what: string;
  readonly unit: string;
  readonly ours: Summary;
  readonly peer?: { readonly name: string; readonly unit: string; readonly summary: Summary };
  /** Ours in terms of the peer's: of medians; what it is of says `ratioOf`. */
  readonly ratio?: number;
  readonly ratioOf?: string;
  readonly target?: Target;
  /** What is to be known to read the row. */
  readonly note?: string;
}

/** Undefined where there is no target. */
export function reached({ target, ratio, ours }: Row): boolean | undefined {
  if (target === undefined) return undefined;
  const value = target.of === 'ratio' ? ratio : ours.median;
  if (value === undefined) return undefined;
  return target.bound === 'at least' ? value >= target.limit : value <= target.limit;
}

export const atLeast = (of: Target['of'], limit: number): Target => ({ of, bound: 'at least', limit });
export const atMost = (of: Target['of'], limit: number): Target => ({ of, bound: 'at most', limit });
