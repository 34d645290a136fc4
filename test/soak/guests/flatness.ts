/** Whether a quantity stays as it is, or grows as long as one looks. */

export interface Bound {
  /** What it may be more at the end than in the middle: a part of it, and so much besides. */
  readonly part: number;
  readonly besides: number;
}

export interface Flatness {
  /** Medians of the middle and of the last third; the first is for warming up. */
  readonly middle: number;
  readonly last: number;
  /** Most that `last` may be. */
  readonly most: number;
  readonly isFlat: boolean;
}

/** @param values in the order of time, at about even distances; three at least. */
export function flatness(values: readonly number[], { part, besides }: Bound): Flatness {
  const third = Math.floor(values.length / 3);
  const middle = median(values.slice(-2 * third, -third));
  const last = median(values.slice(-third));
  const most = middle * (1 + part) + besides;
  return { middle, last, most, isFlat: last <= most };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2;
}
