import type { Dispatcher } from 'undici';
import type { Sending } from './sending.ts';
import { WIRE_HEADER } from './wire.ts';

/** What a client asks of a server. */
export interface Ask {
  readonly method: Dispatcher.HttpMethod;
  readonly path: string;
  readonly query?: Record<string, string | number | boolean>;
  readonly json?: object;
  readonly upload?: AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal;
}

/** For what may be waited for with or without a signal. */
export function until(signal: AbortSignal | undefined): Pick<Ask, 'signal'> {
  return signal === undefined ? {} : { signal };
}

/** The request in undici's words. @param wire none: for `hello`, which is the same in every version. */
export function request(ask: Ask, wire?: number, sending?: Sending): Omit<Dispatcher.RequestOptions, 'signal'> {
  const headers: Record<string, string> = wire === undefined ? {} : { [WIRE_HEADER]: String(wire) };
  if (ask.json !== undefined) headers['content-type'] = 'application/json';
  if (sending !== undefined) headers['content-type'] = 'application/octet-stream';
  const body = sending ?? (ask.json === undefined ? null : JSON.stringify(ask.json));
  return {
    method: ask.method,
    path: ask.path,
    headers,
    body: body as string | null, // undici takes any async iterable; its types name fewer
    ...(ask.query === undefined ? {} : { query: ask.query }),
  };
}
