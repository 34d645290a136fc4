/** Sends a log from its file, by connections of its own: reading, TLS and writing leave the daemon's event loop. */
import type { LaneContext } from '../../lanes/context.ts';
import { follow } from '../follow.ts';
import type { LogName, ReplicaStatus } from '../endpoint.ts';
import { HttpsEndpoint, type HttpsEndpointOptions } from './client.ts';
import { Pace } from './pace.ts';

/** Below this one connection carries as much as anybody has: 1 MiB in flight and 8 ms there and back are 1 Gbit/s. */
const LONG_WAY_MS = 8;
/** What is tried is given so many round trips to show what it brings, and this time at least, ms. */
const TICK_ROUND_TRIPS = 4;
const MIN_TICK_MS = 200;

export interface UploadInput {
  readonly id: string;
  readonly log: LogName;
  readonly offset: number;
  /** The log. Its owner is asked how far it reaches, and told of each part that the network has taken. */
  readonly path: string;
  /** About how long the whole log will be, bytes. */
  readonly expected: number;
  /** Connections that the upload before was worth. */
  readonly strands: number;
  readonly endpoint: Omit<HttpsEndpointOptions, 'lanes'>;
}

export interface Uploaded {
  readonly status: ReplicaStatus;
  /** Connections that it was worth. */
  readonly strands: number;
}

/** As `HttpsEndpoint.put`: over one connection, or over several if the way is long. */
export async function upload(input: UploadInput, context: LaneContext): Promise<Uploaded> {
  const { id, log, offset, path } = input;
  const { signal } = context;
  const endpoint = new HttpsEndpoint(input.endpoint);
  const body = async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of follow(path, offset, (have) => context.ask(have))) {
      yield chunk;
      context.tell(chunk.length);
    }
  };
  try {
    const { roundTripMs } = await endpoint.hello(signal);
    if (roundTripMs < LONG_WAY_MS) return { status: await endpoint.put(id, log, offset, body(), signal), strands: 1 };
    const pace = new Pace(input.strands, input.expected - offset);
    const tickMs = Math.max(MIN_TICK_MS, TICK_ROUND_TRIPS * roundTripMs);
    const status = await endpoint.putByStrands(id, log, offset, body(), { pace, tickMs, signal });
    return { status, strands: pace.strands };
  } finally {
    await endpoint.close();
  }
}
