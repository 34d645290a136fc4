/** Sends a log from its file, by connections of its own: reading, TLS and writing leave the daemon's event loop. */
import type { LaneContext } from '../../lanes/context.ts';
import { follow } from '../follow.ts';
import type { LogName, ReplicaStatus } from '../endpoint.ts';
import { HttpsEndpoint, type HttpsEndpointOptions } from './client.ts';
import { nowFound, type LinkAsFound } from './link-as-found.ts';
import { ENOUGH_EACH, Pace } from './pace.ts';

/** Below this one connection carries as much as anybody has: 1 MiB in flight and 10 ms there and back are 840 Mbit/s. */
const LONG_WAY_MS = 10;
/** What is tried has twice so many round trips to show what it brings: connecting takes three. */
const TICK_ROUND_TRIPS = 3;
/** In less there is nothing to be learnt; and a longer one helps nobody, ms. */
const MIN_TICK_MS = 150;
const MAX_TICK_MS = 450;

export interface UploadInput {
  readonly id: string;
  readonly log: LogName;
  readonly offset: number;
  /** The log. Its owner is asked how far it reaches, and told of each part that the network has taken. */
  readonly path: string;
  /** About how long the whole log will be, bytes. */
  readonly expected: number;
  readonly link: LinkAsFound;
  readonly endpoint: Omit<HttpsEndpointOptions, 'lanes'>;
}

export interface Uploaded {
  readonly status: ReplicaStatus;
  readonly link: LinkAsFound;
}

/** As `HttpsEndpoint.put`: over one connection, or over several if the way is long, and so is the log. */
export async function upload(input: UploadInput, context: LaneContext): Promise<Uploaded> {
  const { id, log, offset, path } = input;
  const { signal } = context;
  const endpoint = new HttpsEndpoint(input.endpoint);
  const body = async function* (reuse: boolean): AsyncGenerator<Buffer> {
    for await (const chunk of follow(path, offset, (have) => context.ask(have), { reuse })) {
      yield chunk;
      context.tell(chunk.length);
    }
  };
  try {
    const roundTripMs = nowFound(input.link.roundTripMs, (await endpoint.hello(signal)).roundTripMs);
    const left = input.expected - offset;
    if (roundTripMs < LONG_WAY_MS || left < 2 * ENOUGH_EACH) {
      const status = await endpoint.put(id, log, offset, body(true), signal);
      return { status, link: { ...input.link, roundTripMs } };
    }
    const pace = new Pace(input.link.strands, left);
    const tickMs = Math.min(MAX_TICK_MS, Math.max(MIN_TICK_MS, TICK_ROUND_TRIPS * roundTripMs));
    const status = await endpoint.putByStrands(id, log, offset, body(false), { pace, tickMs, signal });
    return { status, link: { roundTripMs, strands: pace.strands } };
  } finally {
    await endpoint.close();
  }
}
