import { Failure } from '../../model/failure.ts';
import type { Extent } from '../../model/extent.ts';

/** One run of a block status reply. */
export interface ExtentRun {
  readonly length: number;
  readonly flags: number;
}

/** A run of bytes whose status is the same. What the flags mean is the meta context's matter. */
export interface StatusExtent extends Extent {
  readonly flags: number;
}

/**
 * The extents of one meta context, gathered from replies that each cover a part of the range: exactly the range, in
 * order, neighbours with equal flags merged. Contexts of one reply may reach differently far, so each has its own.
 */
export class ExtentList {
  readonly #out: { offset: number; length: number; flags: number }[] = [];
  readonly #end: number;
  #at: number;

  constructor(offset: number, length: number) {
    this.#at = offset;
    this.#end = offset + length;
  }

  /** Where the next unknown byte is. */
  get at(): number {
    return this.#at;
  }

  get complete(): boolean {
    return this.#at >= this.#end;
  }

  get extents(): StatusExtent[] {
    return this.#out;
  }

  /** Takes the runs of a reply that begins at `from`, which is not after `at`; what is known already is skipped. */
  add(from: number, runs: readonly ExtentRun[]): void {
    let start = from;
    for (const { length, flags } of runs) {
      if (length === 0) throw new Failure('disk-engine', `NBD server sent an empty extent at ${start}`);
      const end = Math.min(start + length, this.#end);
      if (end > this.#at) this.#append(end - this.#at, flags);
      start += length;
    }
  }

  #append(length: number, flags: number): void {
    const last = this.#out.at(-1);
    if (last !== undefined && last.flags === flags) last.length += length;
    else this.#out.push({ offset: this.#at, length, flags });
    this.#at += length;
  }
}
