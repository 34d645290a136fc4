/**
 * How hard what is sent is packed. `auto` goes by what is scarce while a log is read and packed: as the rule zstd's level 1; a higher one
 * where the link is what takes the time; none at all where packing holds the point open and the link would take everything as it is.
 */

/** A number is zstd's level, 1 to 9. */
export type Compression = 'auto' | 'none' | number;

export const LEVELS = { plain: 0, fast: 1, hard: 3 };

/** The link is scarce when what waits for it would take it so long, ms, */
const SCARCE_MS = 1000;
/** and logs are packed so much faster than it takes them: a sender that only lacks CPU isn't so slow. */
const SCARCE_RATIO = 4;
/** Packing for so long, ms, holds a point open for too long, where that isn't needed. */
const LONG_MS = 1000;
/** Lanes are busy packing, and not waiting for reads, when they use so much of the CPU that they could. */
const BUSY = 0.75;
/** The sender waits for the log when no more than this waits for it, bytes; and it doesn't any more at so many. */
const NEXT_TO_NOTHING = 2 * 2 ** 20;
const SOMETHING = 16 * 2 ** 20;

/** A log that is being read and packed. */
export interface Packing {
  /** Since it began, ms. */
  readonly ms: number;
  /** Bytes of the log so far, and how many of them have been handed to the network. */
  readonly written: number;
  readonly sent: number;
  /** Bytes per second that earlier logs got; null: not known. */
  readonly linkSpeed: number | null;
  /** CPU time used so far, as a part of what the lanes that pack could have used. */
  readonly busy: number;
  /** Packing harder takes longer, while the point is open: for so long from the beginning that is all right, ms. */
  readonly patienceMs: number;
}

/** The level to go on with. @param now the level until now. */
export function levelFor(now: number, packing: Packing): number {
  if (isLinkScarce(packing)) return packing.ms < packing.patienceMs ? LEVELS.hard : LEVELS.fast;
  const { ms, written, sent, busy } = packing;
  const ahead = written - sent;
  if (now === LEVELS.plain) return ahead < SOMETHING ? LEVELS.plain : LEVELS.fast;
  return ms > LONG_MS && busy > BUSY && ahead < NEXT_TO_NOTHING ? LEVELS.plain : LEVELS.fast;
}

function isLinkScarce({ ms, written, sent, linkSpeed }: Packing): boolean {
  const seen = ms >= SCARCE_MS ? (sent / ms) * 1000 : null;
  const speed = linkSpeed ?? seen;
  if (speed === null) return false;
  return (written - sent) * 1000 > speed * SCARCE_MS && written * 1000 > SCARCE_RATIO * speed * ms;
}
