/** What a host knows of the way to a peer, from one upload to the next. */
export interface LinkAsFound {
  /** There and back, ms: the least of late. */
  readonly roundTripMs: number;
  /** Connections that the last long log was worth. */
  readonly strands: number;
}

/** By so much the way may have become longer from one upload to the next. */
const LONGER = 1.1;

/**
 * The round trip, measured once more. Load makes it seem longer, nothing makes it seem shorter: what was found before counts, too.
 * A way that has become longer is believed after some uploads.
 */
export function nowFound(before: number, measured: number): number {
  return Math.min(measured, LONGER * before);
}
