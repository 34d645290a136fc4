/** What the disks of a VM held when: the oracle. Instants are those of this machine's clock, which both daemons use, too. */
import type { Image } from './image.ts';

export type Images = readonly Image[];

interface Moment {
  readonly from: number;
  until: number;
  readonly images: Images;
}

export class Past {
  #moments: Moment[] = [];
  /** What the disks of a former primary held when they became a replica. */
  #found: Moment[] = [];

  /** From now on no point may be made: the disks are written, or about to be. */
  end(): void {
    const last = this.#moments.at(-1);
    if (last !== undefined && last.until === Infinity) last.until = Date.now();
  }

  /** From now on the disks that are replicated hold this. */
  begin(images: Images): void {
    this.end();
    this.#moments.push({ from: Date.now(), until: Infinity, images });
  }

  /** From now on disks that hold this may be made a replica: then what they hold is one of its points. */
  mayBeFound(images: Images): void {
    const last = this.#found.at(-1);
    if (last !== undefined) last.until = Math.min(last.until, Date.now());
    this.#found.push({ from: Date.now(), until: Infinity, images });
  }

  /** What a point of that instant may hold; more than one where moments of two hosts, or of two clock ticks, meet. */
  at({ instant, kind }: { instant: number; kind: string }): Images[] {
    const within = (kind === 'found' ? this.#found : this.#moments).filter(
      ({ from, until }) => from <= instant && instant <= until,
    );
    return within.map(({ images }) => images);
  }

  /** Forgets what no point that is left is of. */
  forgetBefore(instant: number): void {
    this.#moments = this.#moments.filter(({ until }) => until >= instant);
  }

  /** Where an instant lies, for the story of a violation. */
  tell(instant: number): string {
    const around = this.#moments.filter(({ from, until }) => Math.abs(from - instant) < 60_000 || until >= instant);
    return around.map(({ from, until }) => `${from - instant}…${until - instant}`).join(', ');
  }
}
