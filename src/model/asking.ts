/**
 * Whether a primary asks its replica which pages of a log it has already, before it sends the log: where the link is what takes the time, and
 * asking has been quick and of use so far. One for each relationship; what it has learnt ends with the process.
 */

/** A log that takes no longer than this, ms, is sent as it is. */
const NO_HURRY_MS = 1000;
/** Asking may take this part of the time that it is expected to save. */
const WORTH = 1 / 2;
/** Bytes of disk about which a replica answers in a second, as long as that wasn't measured. */
const FIRST_SPEED = 128 * 1024 * 1024;
/** What asking saves of a log, as long as nothing is known: and at least, so that it is tried again where it costs next to nothing. */
const FIRST_SAVING = 1 / 2;
const LEAST_SAVING = 1 / 8;
/** An answer that was slow, or of no use, may have been an exception: with each log that isn't asked about it counts so much less. */
const FORGETTING = 1 / 8;

/** A log that is to be sent. */
export interface Unsent {
  /** About how long it is, bytes. */
  readonly logBytes: number;
  /** Bytes of disk in it that aren't zeros. */
  readonly dataBytes: number;
  /** Bytes per second (link-speed.ts); null: not known. */
  readonly linkSpeed: number | null;
}

export class Asking {
  #speed = FIRST_SPEED;
  #saving = FIRST_SAVING;
  #answers = true;

  /** To be asked once for each log. */
  pays({ logBytes, dataBytes, linkSpeed }: Unsent): boolean {
    if (!this.#answers || linkSpeed === null || dataBytes === 0) return false;
    const sendingMs = (logBytes * 1000) / linkSpeed;
    const askingMs = (dataBytes * 1000) / this.#speed;
    if (sendingMs <= NO_HURRY_MS) return false;
    if (askingMs < sendingMs * Math.max(this.#saving, LEAST_SAVING) * WORTH) return true;
    this.#speed += (FIRST_SPEED - this.#speed) * FORGETTING;
    this.#saving += (FIRST_SAVING - this.#saving) * FORGETTING;
    return false;
  }

  /** The replica has answered about so many bytes of disk. */
  answered(bytes: number, ms: number): void {
    this.#speed = (bytes * 1000) / Math.max(1, ms);
  }

  /** @param part of a log that needn't be sent, 0..1. */
  saved(part: number): void {
    this.#saving = (this.#saving + part) / 2; // a guest writes files now, pages of a database then
  }

  /** The other side doesn't know the question. */
  isOlder(): void {
    this.#answers = false;
  }
}
