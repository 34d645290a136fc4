/**
 * What the guest announced to have written, life after life: from boot to its end, on whatever host. A record on a disk
 * is that guest's only if it was made in the moment that the guest announced: so a record that another copy of
 * the VM wrote under the same number is told from it.
 */
import type { WorkloadRecord } from '../lab/guest/records.ts';

/** Between which moments of the guest's clock (ms) a record was made. */
interface Made {
  readonly notBefore: number;
  readonly notAfter: number;
}

/** A life's first record was made at most this long before it was announced; the others after the one before. */
const FIRST_MS = 2000;

const LINE = /^(BEG|REC) (\d+) (\d+)$/;

export class History {
  readonly #made = new Map<number, Made>();

  /** @param lives announcements of one life each, oldest first. */
  constructor(lives: readonly string[]) {
    for (const life of lives) this.#add(life);
  }

  /** Where a life goes on with number n, whatever earlier lives wrote from n on never was. */
  #add(announcements: string): void {
    let last: number | undefined;
    let first: number | undefined;
    for (const line of announcements.split('\n')) {
      const [, word, number, time] = LINE.exec(line) ?? [];
      if (word === undefined) continue; // a crash cut it
      if (word === 'BEG') {
        if (first === undefined) this.#forgetFrom((first = Number(number)));
        this.#made.set(Number(number), { notBefore: last ?? Number(time) - FIRST_MS, notAfter: Number(time) });
      } else last = Number(time);
    }
  }

  #forgetFrom(first: number): void {
    for (const number of this.#made.keys()) if (number >= first) this.#made.delete(number);
  }

  /** How many of a disk's records, from the first on, are 1, 2, 3, … and just those announced. */
  inherited(records: readonly WorkloadRecord[]): number {
    const strange = records.findIndex(({ number, time }, at) => {
      const made = this.#made.get(number);
      return number !== at + 1 || made === undefined || time < made.notBefore || time > made.notAfter;
    });
    return strange === -1 ? records.length : strange;
  }
}
