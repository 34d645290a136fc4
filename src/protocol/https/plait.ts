import { randomBytes } from 'node:crypto';
import type { Pace } from './pace.ts';
import { Stripes } from './stripes.ts';

/** How the requests of an upload are made. `first` resolves with the upload's answer, `more` when that strand has ended. */
export interface StrandRequests<T> {
  first(upload: string, body: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<T>;
  more(upload: string, body: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<unknown>;
}

export interface Plait {
  readonly source: AsyncIterable<Uint8Array>;
  /** Byte of the log with which the source begins. */
  readonly offset: number;
  /** Says how many connections there are; told of each tick. */
  readonly pace: Pace;
  /** So long a tick is, ms. */
  readonly tickMs: number;
  readonly signal?: AbortSignal;
}

/**
 * Sends a log's bytes over as many connections as the link is worth. It is one upload all the same: a strand that breaks breaks
 * it, its answer is that of the first.
 */
export async function plait<T>(
  { source, offset, pace, tickMs, signal }: Plait,
  requests: StrandRequests<T>,
): Promise<T> {
  const upload = randomBytes(16).toString('hex');
  const stripes = new Stripes(source, offset);
  const stop = new AbortController();
  const over = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  /** How each strand but the first is told to end. */
  const retirements: AbortController[] = [];
  const strands = new Set<Promise<unknown>>();

  const adjust = (): void => {
    while (retirements.length > pace.strands - 1) retirements.pop()!.abort();
    while (retirements.length < pace.strands - 1) {
      const retired = new AbortController();
      retirements.push(retired);
      const strand = requests
        .more(upload, stripes.strand(retired.signal), over)
        .catch((error: unknown) => stop.abort(error))
        .finally(() => strands.delete(strand));
      strands.add(strand);
    }
  };
  let { at, sourceMs } = stripes;
  const ticks = setInterval(() => {
    if (stripes.ended) return;
    pace.tick(stripes.at - at, (stripes.sourceMs - sourceMs) / tickMs);
    ({ at, sourceMs } = stripes);
    adjust();
  }, tickMs);
  try {
    const first = requests.first(upload, stripes.strand(), over);
    adjust();
    return await first;
  } finally {
    clearInterval(ticks);
    stripes.close();
    stop.abort();
    await Promise.all(strands);
  }
}
