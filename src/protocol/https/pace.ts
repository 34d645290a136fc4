import { MOST_STRANDS } from './wire.ts';

/** More strands are worth it when they carry so much more than fewer did. */
const WORTH = 1.15;
/** So many ticks pass before more are tried again, where they weren't worth it: the first time, and at most. */
const FIRST_REST = 5;
const LONGEST_REST = 80;
/** Of a tick in which the log itself wasn't there for more than this part nothing is learnt of the link. */
const STARVED = 0.5;
/** With less each, strands cost more than they bring, bytes. */
export const ENOUGH_EACH = 4 * 1024 * 1024;

/**
 * Finds how many strands an upload is worth, from what they carry: one at first, twice as many as long as that carries more. A
 * link whose way is long compared with what a connection may have in flight takes many, any other one. Each number is tried for two
 * ticks: in the first it settles.
 */
export class Pace {
  #strands: number;
  readonly #most: number;
  #settled = false;
  /** What fewer strands carried, bytes per tick, and how many they were. */
  #fewer: { readonly bytes: number; readonly strands: number } | undefined;
  #rest = 0;
  #nextRest = FIRST_REST;

  /**
   * @param found what the upload before was worth: this one begins a little below that, and so finds out anew.
   * @param expected about how much is to be sent, bytes.
   */
  constructor(found: number, expected: number) {
    this.#most = Math.max(1, Math.min(MOST_STRANDS, Math.floor(expected / ENOUGH_EACH)));
    this.#strands = Math.max(1, Math.min(this.#most, Math.floor(found * 0.75)));
  }

  get strands(): number {
    return this.#strands;
  }

  /** Told of each tick: bytes that the network took in it, and for which part of it there was nothing to send, 0..1. */
  tick(bytes: number, starved: number): void {
    if (this.#rest > 0) {
      this.#rest--;
      return;
    }
    if (starved > STARVED) return;
    if (!this.#settled) {
      this.#settled = true;
      return;
    }
    this.#settled = false;
    const fewer = this.#fewer;
    if (fewer !== undefined && bytes < fewer.bytes * WORTH) {
      this.#strands = fewer.strands;
      this.#beContent(2 * this.#nextRest);
    } else if (this.#strands >= this.#most) {
      this.#beContent(LONGEST_REST);
    } else {
      this.#fewer = { bytes, strands: this.#strands };
      this.#strands = Math.min(this.#most, 2 * this.#strands);
      if (fewer !== undefined) this.#nextRest = FIRST_REST;
    }
  }

  #beContent(nextRest: number): void {
    this.#fewer = undefined;
    this.#rest = this.#nextRest;
    this.#nextRest = Math.min(LONGEST_REST, nextRest);
  }
}
