/**
 * Where the bytes of a disk at some point are to be found: a sorted list of disjoint runs, each with its source. What was
 * added first wins: of the undo logs from a point on, the oldest that covers a byte holds what the point had there.
 */
import type { Extent } from '../model/extent.ts';

export interface IndexedRun<S> extends Extent {
  readonly source: S;
}

/** A part of a range; without a source it is where nothing has been added: on the flat disk. */
export interface Segment<S> extends Extent {
  readonly source: S | undefined;
}

export class ExtentIndex<S> {
  #runs: IndexedRun<S>[] = [];
  #version = 0;

  /** Grows with every `add`. */
  get version(): number {
    return this.#version;
  }

  get runs(): readonly IndexedRun<S>[] {
    return this.#runs;
  }

  /** Adds runs where nothing is yet. They may come in any order; of two that overlap each other the first wins. */
  add(runs: readonly IndexedRun<S>[]): void {
    this.#version++;
    if (runs.length === 0) return;
    this.#runs = merge(this.#runs, disjoint(runs));
  }

  /** The whole range, cut into what is in the index and what isn't, in order. */
  lookup(offset: number, length: number): Segment<S>[] {
    const out: Segment<S>[] = [];
    const end = offset + length;
    let at = offset;
    for (let i = this.#firstAfter(offset); i < this.#runs.length && at < end; i++) {
      const run = this.#runs[i]!;
      if (run.offset >= end) break;
      if (run.offset > at) out.push({ offset: at, length: run.offset - at, source: undefined });
      const from = Math.max(at, run.offset);
      const to = Math.min(end, run.offset + run.length);
      out.push({ offset: from, length: to - from, source: run.source });
      at = to;
    }
    if (at < end) out.push({ offset: at, length: end - at, source: undefined });
    return out;
  }

  /** Index of the first run that ends after `offset`. */
  #firstAfter(offset: number): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const run = this.#runs[middle]!;
      if (run.offset + run.length <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Sorts runs; where some overlap, those given first keep the bytes. */
function disjoint<S>(runs: readonly IndexedRun<S>[]): IndexedRun<S>[] {
  const sorted = runs.toSorted((a, b) => a.offset - b.offset);
  const overlap = sorted.some((run, i) => i > 0 && sorted[i - 1]!.offset + sorted[i - 1]!.length > run.offset);
  if (!overlap) return sorted;
  let out: IndexedRun<S>[] = [];
  for (const run of runs) out = merge(out, [run]);
  return out;
}

/** Sorted, disjoint union: all of `first`, and of `second` what lies outside of it. */
function merge<S>(first: readonly IndexedRun<S>[], second: readonly IndexedRun<S>[]): IndexedRun<S>[] {
  const out: IndexedRun<S>[] = [];
  let i = 0;
  for (const { offset, length, source } of second) {
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const run = first[i];
      if (run === undefined || run.offset >= end) {
        out.push({ offset: at, length: end - at, source });
        at = end;
      } else {
        if (run.offset > at) out.push({ offset: at, length: run.offset - at, source });
        // A run that reaches past this extent still matters for the next one.
        if (run.offset + run.length > end) break;
        out.push(run);
        i++;
        at = Math.max(at, run.offset + run.length);
      }
    }
  }
  while (i < first.length) out.push(first[i++]!);
  return out;
}
