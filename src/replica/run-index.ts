/**
 * Which bytes of a disk come from where: sorted, disjoint runs, each with a number for its source, in typed arrays: 20 bytes
 * a run, whatever the number of runs. What was added first stays.
 */
import type { Extent } from '../model/extent.ts';

/** Runs by column; in order and disjoint, unless it is said otherwise. */
export interface Runs {
  readonly count: number;
  /** Bytes. */
  readonly offset: Float64Array;
  readonly length: Float64Array;
  readonly source: Uint32Array;
}

/** A part of a range; without a source it is where nothing has been added. */
export interface SourcedPart extends Extent {
  readonly source: number | undefined;
}

/** Stretches of more runs than this are copied by column instead of one by one. */
const STRETCH = 32;

/** Runs that are being gathered, in order. */
export class RunColumns implements Runs {
  count = 0;
  readonly offset: Float64Array;
  readonly length: Float64Array;
  readonly source: Uint32Array;

  constructor(capacity: number) {
    this.offset = new Float64Array(capacity);
    this.length = new Float64Array(capacity);
    this.source = new Uint32Array(capacity);
  }

  push(offset: number, length: number, source: number): void {
    const at = this.count++;
    this.offset[at] = offset;
    this.length[at] = length;
    this.source[at] = source;
  }

  /** Takes over runs `from` to `to` (not included) of others. */
  copy(runs: Runs, from: number, to: number): void {
    if (to - from <= STRETCH) {
      for (let i = from; i < to; i++) this.push(runs.offset[i]!, runs.length[i]!, runs.source[i]!);
      return;
    }
    this.offset.set(runs.offset.subarray(from, to), this.count);
    this.length.set(runs.length.subarray(from, to), this.count);
    this.source.set(runs.source.subarray(from, to), this.count);
    this.count += to - from;
  }

  /** The same without room for more. */
  trimmed(): Runs {
    const { count } = this;
    if (count === this.offset.length) return this;
    return {
      count,
      offset: this.offset.slice(0, count),
      length: this.length.slice(0, count),
      source: this.source.slice(0, count),
    };
  }
}

export class RunIndex {
  #runs: Runs = new RunColumns(0);

  get runs(): Runs {
    return this.#runs;
  }

  /**
   * Adds batches of runs where nothing is yet; of two batches the first wins, and so does the first of two runs that overlap in one batch. Many
   * batches at once cost little more than few: neighbours are joined first.
   */
  add(batches: readonly Runs[]): void {
    const all = join(batches.map(disjoint));
    if (all !== undefined && all.count > 0) this.#runs = union(this.#runs, all);
  }

  /** Gives the sources other numbers: `numbers[old]`. */
  renumber(numbers: Uint32Array): void {
    const { source, count } = this.#runs;
    for (let i = 0; i < count; i++) source[i] = numbers[source[i]!]!;
  }

  /** The whole range, cut into what is in the index and what isn't, in order. */
  lookup(offset: number, length: number): SourcedPart[] {
    const runs = this.#runs;
    const out: SourcedPart[] = [];
    const end = offset + length;
    let at = offset;
    for (let i = firstBehind(runs, offset, 0); i < runs.count && at < end; i++) {
      const start = runs.offset[i]!;
      if (start >= end) break;
      if (start > at) out.push({ offset: at, length: start - at, source: undefined });
      const from = Math.max(at, start);
      const to = Math.min(end, start + runs.length[i]!);
      out.push({ offset: from, length: to - from, source: runs.source[i]! });
      at = to;
    }
    if (at < end) out.push({ offset: at, length: end - at, source: undefined });
    return out;
  }
}

/** Index of the first run that ends behind `offset`, from index `low` on. */
function firstBehind(runs: Runs, offset: number, low: number): number {
  let from = low;
  let to = runs.count;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (runs.offset[middle]! + runs.length[middle]! <= offset) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** In order; where some overlap, those given first keep the bytes. */
function disjoint(runs: Runs): Runs {
  const { count, offset, length, source } = runs;
  let sorted = true;
  let overlap = false;
  for (let i = 1; i < count && !overlap; i++) {
    if (offset[i]! < offset[i - 1]!) sorted = false;
    else overlap = offset[i - 1]! + length[i - 1]! > offset[i]!;
  }
  if (sorted && !overlap) return runs;
  const order = Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) => offset[a]! - offset[b]! || a - b);
  const out = new RunColumns(count);
  for (const i of order) out.push(offset[i]!, length[i]!, source[i]!);
  for (let i = 1; i < count; i++) {
    if (out.offset[i - 1]! + out.length[i - 1]! > out.offset[i]!) return inTurn(runs);
  }
  return out;
}

/** Each run where those before it have left room. */
function inTurn({ count, offset, length, source }: Runs): Runs {
  const each = Array.from({ length: count }, (_, i) => {
    const one = new RunColumns(1);
    one.push(offset[i]!, length[i]!, source[i]!);
    return one;
  });
  return join(each)!;
}

/** All batches as one; undefined of none. */
function join(batches: readonly Runs[]): Runs | undefined {
  let all = batches;
  while (all.length > 1) {
    const next: Runs[] = [];
    for (let i = 0; i < all.length; i += 2) next.push(i + 1 < all.length ? union(all[i]!, all[i + 1]!) : all[i]!);
    all = next;
  }
  return all[0];
}

/** All of `first`, and of `second` what lies outside of it. */
function union(first: Runs, second: Runs): Runs {
  // Each run of `first` can cut one of `second` in two.
  const out = new RunColumns(2 * first.count + second.count);
  let i = 0;
  for (let k = 0; k < second.count; k++) {
    let at = second.offset[k]!;
    const end = at + second.length[k]!;
    const source = second.source[k]!;
    const behind = firstBehind(first, at, i);
    out.copy(first, i, behind);
    i = behind;
    while (at < end) {
      const start = i < first.count ? first.offset[i]! : Infinity;
      if (start >= end) {
        out.push(at, end - at, source);
        break;
      }
      if (start > at) out.push(at, start - at, source);
      at = start + first.length[i]!;
      // One that reaches past this run still matters for the next one.
      if (at > end) break;
      out.copy(first, i, ++i);
    }
  }
  out.copy(first, i, first.count);
  return out.trimmed();
}
