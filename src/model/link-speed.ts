/**
 * How fast logs get to the replica, learnt from those that did, and what follows from that. Speeds are bytes per second, from the
 * first byte handed over until the log is acknowledged: the network, and whatever else there is on the way.
 */

/** A log that took at least so many bytes, or so long (ms), tells how fast the link is; a shorter one is ruled by round trips and syncing. */
const TELLING_BYTES = 1024 * 1024;
const TELLING_MS = 2000;

/** A log that takes no longer than this, ms, is sent as it is. */
const NO_HURRY_MS = 1000;
/** Asking may take this part of what sending takes, at most: in the worst case it was in vain. */
const WORTH = 1 / 8;

/** A log that was sent in one go, and acknowledged. */
export interface Sent {
  readonly bytes: number;
  readonly ms: number;
}

/** What is known of the link after a log was sent in one go; `before` is what was known. Null: nothing. */
export function learnSpeed(before: number | null, { bytes, ms }: Sent): number | null {
  if (bytes <= 0 || ms <= 0) return before;
  const speed = (bytes * 1000) / ms;
  if (bytes >= TELLING_BYTES || ms >= TELLING_MS) return before === null ? speed : (before + speed) / 2;
  // It only shows that the link is at least so fast.
  return before === null ? null : Math.max(before, speed);
}

/** What is to be sent, and how fast it would go. */
export interface Sending {
  /** About how long the log is, bytes. */
  readonly logBytes: number;
  /** Bytes of disk in it that aren't zeros. */
  readonly dataBytes: number;
  /** Null: not known. */
  readonly linkSpeed: number | null;
  /** Bytes of disk about which the replica answers in a second. */
  readonly askingSpeed: number;
}

/** Whether to ask the replica first which pages of a log it has already: only where the link is clearly what takes the time. */
export function paysToAsk({ logBytes, dataBytes, linkSpeed, askingSpeed }: Sending): boolean {
  if (linkSpeed === null || dataBytes === 0) return false;
  const sendingMs = (logBytes * 1000) / linkSpeed;
  const askingMs = (dataBytes * 1000) / askingSpeed;
  return sendingMs > NO_HURRY_MS && askingMs < sendingMs * WORTH;
}
