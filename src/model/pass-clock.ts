/**
 * How long ago the last pass of verification began, and for how long the present one has been going, by a clock that nobody sets. The
 * record holds times that people read; by these alone a clock that is put forward would begin a pass too early, and one that is put
 * back would put it off. Only what was before this process has to be believed, and at most as long ago as the clock says. Pure.
 */
import type { Verification } from './verification.ts';

/** Of one host, at one moment: what people read, and what goes on evenly; ms. */
export interface Moment {
  readonly now: number;
  readonly boot: number;
}

interface Anchor {
  /** As the record has it, ms since the epoch. */
  readonly began: number;
  /** The same by the clock that nobody sets. */
  readonly boot: number;
}

export class PassClock {
  #pass: Anchor | undefined;
  #last: Anchor | undefined;

  /** Since the pass under way began, whole ms; 0 where there is none. */
  sincePass({ pass }: Verification, at: Moment): number {
    if (pass === null) return 0;
    this.#pass = anchored(this.#pass, pass.began, at);
    return Math.round(at.boot - this.#pass.boot);
  }

  /** Since the last whole pass began, whole ms; null where there was none. */
  sinceLast({ last }: Verification, at: Moment): number | null {
    if (last === null) return null;
    this.#last = anchored(this.#last, last.began, at);
    return Math.round(at.boot - this.#last.boot);
  }
}

/** Looked at for the first time, it is as old as the wall clock says. */
function anchored(known: Anchor | undefined, began: number, { now, boot }: Moment): Anchor {
  return known?.began === began ? known : { began, boot: boot - Math.max(0, now - began) };
}
