import type { Dispatcher } from 'undici';
import { Failure } from '../../model/failure.ts';
import { FailureShape, read } from './messages.ts';
import { MAX_JSON } from './wire.ts';

/** An answer, whole. */
export interface Received {
  readonly status: number;
  readonly type: string;
  readonly body: Uint8Array;
}

export interface Receiving extends Dispatcher.RequestOptions {
  /** Called at every sign of life: interim answers, headers, bytes. */
  readonly heard: () => void;
}

/** Sends a request and reads its answer to the end. Throws what undici throws, or Failure `format-unknown` (too large). */
export async function receive(dispatcher: Dispatcher, options: Receiving): Promise<Received> {
  const { heard, ...request } = options;
  const response = await dispatcher.request({ ...request, onInfo: heard });
  heard();
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body as AsyncIterable<Uint8Array>) {
    heard();
    size += part.length;
    if (size > MAX_JSON) throw new Failure('format-unknown', `The answer is larger than ${MAX_JSON} bytes`);
    parts.push(part);
  }
  const type = response.headers['content-type'];
  return { status: response.statusCode, type: typeof type === 'string' ? type : '', body: Buffer.concat(parts) };
}

/** The document in an answer. Failure `format-unknown` when it isn't one. */
export function jsonOf(received: Received): unknown {
  try {
    return JSON.parse(Buffer.from(received.body).toString('utf8'));
  } catch (error) {
    throw new Failure('format-unknown', 'The answer is not JSON', { cause: error });
  }
}

/** The Failure that an answer other than 200 tells. */
export function failureOf(received: Received, peerName: string): Failure {
  const json = received.type.startsWith('application/json') ? jsonOf(received) : undefined;
  return Failure.fromJson(
    read(FailureShape, json, `answer of ${peerName} with status ${received.status}`, 'format-unknown'),
  );
}
