/** The thread in which peers' connections end. Several servers may share one (in tests); each has its number. */
import { once } from 'node:events';
import { land, type Landed } from '../../deltalog/landing.ts';
import type { LaneContext } from '../../lanes/context.ts';
import { Failure } from '../../model/failure.ts';
import { Listener } from './listener.ts';
import type { BodyOf, LandBody, Listening, NewGuests, Strand } from './threads.ts';

const listeners = new Map<number, Listener>();

/** Listens until it is told to end. Failure `bad-config` when the address can't be listened on. */
export async function listen(options: Listening, context: LaneContext): Promise<void> {
  const listener = new Listener(options, context);
  listeners.set(options.server, listener);
  try {
    const port = await listener.listen();
    context.tell({ kind: 'listening', port });
    if (!context.signal.aborted) await once(context.signal, 'abort');
  } finally {
    listeners.delete(options.server);
    await listener.close();
  }
}

/** From now on these are let in; the connections of others are cut. */
export function setGuests({ server, guests }: NewGuests): Promise<void> {
  listeners.get(server)?.setGuests(guests);
  return Promise.resolve();
}

export async function readJson(body: BodyOf): Promise<unknown> {
  return await listenerOf(body).exchange(body.request).json();
}

/** What has come of an upload since it was asked last; undefined at its end. */
export async function readChunks(body: BodyOf): Promise<readonly Uint8Array[] | undefined> {
  const { value, done } = await listenerOf(body).bytes(body).next();
  return done === true ? undefined : value;
}

/** Has an upload written to its file. Asks, with the log's header, whether it may. */
export async function landBody({ landing, ...body }: LandBody, context: LaneContext): Promise<Landed> {
  return await land(landing, listenerOf(body).bytes(body), (header) => context.ask<void>(header), context.signal);
}

/** Takes a request's body into an upload that another request has begun. Resolves when nothing more is wanted of it. */
export async function joinUpload(strand: Strand): Promise<void> {
  await listenerOf(strand).join(strand.request, strand.upload);
}

function listenerOf({ server }: BodyOf): Listener {
  const listener = listeners.get(server);
  if (listener === undefined) throw new Failure('interrupted', 'The server is being closed');
  return listener;
}
