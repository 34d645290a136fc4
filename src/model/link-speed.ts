/**
 * How fast logs get to the replica, learnt from those that did. Bytes per second, from the first byte handed over until the log is
 * acknowledged, without the time in which there was nothing to send: the network, and whatever else there is on the way.
 */

/** A log of at least so many bytes, or that took so long (ms), tells how fast the link is; a shorter one is ruled by round trips and syncing. */
const TELLING_BYTES = 16 * 1024 * 1024;
const TELLING_MS = 1000;

/** A log that was sent in one go, and acknowledged. */
export interface Sent {
  readonly bytes: number;
  /** Without the time in which the log wasn't there yet. */
  readonly ms: number;
}

/** What is known of the link after a log was sent in one go; `before` is what was known. Null: nothing. */
export function learnSpeed(before: number | null, { bytes, ms }: Sent): number | null {
  if (bytes <= 0 || ms <= 0) return before;
  const speed = (bytes * 1000) / ms;
  if (bytes >= TELLING_BYTES || ms >= TELLING_MS) return before === null ? speed : revised(before, speed);
  // It only shows that the link is at least so fast.
  return before === null ? null : Math.max(before, speed);
}

/** That a link has become slower is believed at once, that it has become faster bit by bit: the mean of the times that a byte takes. */
function revised(before: number, speed: number): number {
  return Math.min(speed, 2 / (1 / before + 1 / speed));
}
