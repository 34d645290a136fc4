import type { Admit, Landed, Landing } from '../deltalog/landing.ts';

/**
 * The body of a `put` as a server over the network gives it to the replica behind it. Its bytes are in the thread where the
 * network ends: who wants them in a file has them written there, by `land`, and never sees them; who reads them has them brought over.
 */
export interface Arrival extends AsyncIterable<Uint8Array> {
  /** See `land` in `../deltalog/landing.ts`. Once, and instead of reading. */
  land(landing: Landing, admit: Admit, signal: AbortSignal): Promise<Landed>;
}

export function isArrival(body: AsyncIterable<Uint8Array>): body is Arrival {
  return 'land' in body;
}
