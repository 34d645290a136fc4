/**
 * What a primary says while nothing changes: "at this instant I was still where you are". It makes the latest point newer; no
 * log is needed for it.
 */
import { Failure } from '../model/failure.ts';
import { samePosition, type Position, type RecoveryPoint } from '../model/relationship.ts';
import { describe, notFollowing } from './admission.ts';
import type { Inbox, ReceivedLog } from './inbox.ts';
import type { RecordFile } from './record.ts';

/** The record is written at most so often, ms: what a crash loses is an instant, seconds old, of a display. */
const WRITE_EVERY_MS = 5000;

export class Confirmations {
  readonly #record: RecordFile;
  readonly #inbox: Inbox;
  /** Of a log that isn't applied yet. */
  #early: { position: Position; instant: number } | undefined;
  #written = -Infinity;

  constructor(record: RecordFile, inbox: Inbox) {
    this.#record = record;
    this.#inbox = inbox;
  }

  /** The primary saw at `instant` (ms, its clock) that nothing had changed since `position`. */
  async take(position: Position, instant: number): Promise<void> {
    const { epoch, applied, latest, frozen } = this.#record.value;
    const { received } = this.#inbox;
    // After a failover the position itself is of the epoch before: only another one shows a primary that was left behind.
    const same = samePosition(position, received);
    if (position.epoch < epoch && (!same || frozen)) {
      throw new Failure('stale-epoch', `${describe(position)} was confirmed; the replica is at epoch ${epoch}`);
    }
    if (!same) throw notFollowing('other state', `${describe(position)} was confirmed`, received);
    if (!samePosition(position, applied)) {
      this.#early = { position, instant };
      return;
    }
    if (latest === null || latest.confirmed >= instant) return;
    this.#record.remember({ latest: { ...latest, confirmed: instant } });
    if (performance.now() - this.#written < WRITE_EVERY_MS) return;
    this.#written = performance.now();
    await this.#record.update({});
  }

  /** The point that a log makes, with what was confirmed of it while it waited. */
  pointOf({ makes, point }: ReceivedLog): RecoveryPoint | null {
    const early = this.#early;
    if (point === null || early === undefined || !samePosition(early.position, makes)) return point;
    return { ...point, confirmed: Math.max(point.confirmed, early.instant) };
  }
}
