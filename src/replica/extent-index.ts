/**
 * Where the bytes of a disk at some point are to be found: a sorted list of disjoint runs, each with its source. What was
 * added first wins: of the undo logs from a point on, the oldest that covers a byte holds what the point had there.
 */
import type { Extent } from '../model/extent.ts';
import { RunColumns, RunIndex } from './run-index.ts';

export interface IndexedRun<S> extends Extent {
  readonly source: S;
}

/** A part of a range; without a source it is where nothing has been added: on the flat disk. */
export interface Segment<S> extends Extent {
  readonly source: S | undefined;
}

export class ExtentIndex<S> {
  readonly #index = new RunIndex();
  readonly #sources: S[] = [];

  get runs(): IndexedRun<S>[] {
    const { count, offset, length, source } = this.#index.runs;
    return Array.from({ length: count }, (_, i) => ({
      offset: offset[i]!,
      length: length[i]!,
      source: this.#sources[source[i]!]!,
    }));
  }

  /** Adds runs where nothing is yet. They may come in any order; of two that overlap each other the first wins. */
  add(runs: readonly IndexedRun<S>[]): void {
    const columns = new RunColumns(runs.length);
    for (const { offset, length, source } of runs) columns.push(offset, length, this.#sources.push(source) - 1);
    this.#index.add([columns]);
  }

  /** The whole range, cut into what is in the index and what isn't, in order. */
  lookup(offset: number, length: number): Segment<S>[] {
    return this.#index.lookup(offset, length).map(({ source, ...part }) => ({
      ...part,
      source: source === undefined ? undefined : this.#sources[source]!,
    }));
  }
}
