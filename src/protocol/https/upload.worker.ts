/** Sends a log from its file, by a connection of its own: reading, TLS and writing leave the daemon's event loop. */
import type { LaneContext } from '../../lanes/context.ts';
import { follow } from '../follow.ts';
import type { LogName, ReplicaStatus } from '../endpoint.ts';
import { HttpsEndpoint, type HttpsEndpointOptions } from './client.ts';

export interface UploadInput {
  readonly id: string;
  readonly log: LogName;
  readonly offset: number;
  /** The log. Its owner is asked how far it reaches, and told of each part that the network has taken. */
  readonly path: string;
  readonly endpoint: Omit<HttpsEndpointOptions, 'lanes'>;
}

/** As `HttpsEndpoint.put`. */
export async function upload(input: UploadInput, context: LaneContext): Promise<ReplicaStatus> {
  const { id, log, offset, path } = input;
  const endpoint = new HttpsEndpoint(input.endpoint);
  const body = async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of follow(path, offset, (have) => context.ask(have))) {
      yield chunk;
      context.tell(chunk.length);
    }
  };
  try {
    return await endpoint.put(id, log, offset, body(), context.signal);
  } finally {
    await endpoint.close();
  }
}
