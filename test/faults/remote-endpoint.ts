/**
 * The two hosts' questions to each other when one of them is a process of its own, over the channel that `fork` makes. Both ends use
 * the same: each answers for its host, and asks the other. A log goes over in one piece.
 */
import type { ChildProcess } from 'node:child_process';
import { asFailure, Failure, type FailureJson } from '../../src/model/failure.ts';
import type { ReplicaEndpoint } from '../../src/protocol/endpoint.ts';

interface Asked {
  readonly of: 'endpoint';
  readonly call: number;
  readonly method: keyof ReplicaEndpoint;
  readonly parameters: readonly unknown[];
}

interface Answered {
  readonly of: 'endpoint';
  readonly answer: number;
  readonly value?: unknown;
  readonly failure?: FailureJson;
}

/** Place of a log's body among the parameters of `put`. */
const BODY = 3;

/** Gives the host at the other end; `own` answers for this one. When the channel ends, so do questions. */
export function remoteEndpoint(channel: ChildProcess | NodeJS.Process, own: () => ReplicaEndpoint): ReplicaEndpoint {
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  let calls = 0;
  channel.on('message', (message: Asked | Answered) => {
    if (message.of !== 'endpoint') return;
    if ('method' in message) void answer(message);
    else settle(message);
  });
  const gone = () => {
    for (const { reject } of waiting.values()) reject(new Failure('interrupted', 'the other host has died'));
    waiting.clear();
  };
  channel.once('disconnect', gone);

  const send = (message: Asked | Answered) => channel.send!(message, undefined, {}, () => undefined); // it may have died meanwhile
  const answer = async ({ call, method, parameters }: Asked): Promise<void> => {
    try {
      const work = own()[method] as (...all: unknown[]) => Promise<unknown>;
      const value = await work(...(method === 'put' ? withBody(parameters) : parameters));
      if (channel.connected) send({ of: 'endpoint', answer: call, value });
    } catch (error) {
      if (channel.connected) send({ of: 'endpoint', answer: call, failure: asFailure(error).toJSON() });
    }
  };
  const settle = ({ answer: call, value, failure }: Answered): void => {
    const asked = waiting.get(call);
    waiting.delete(call);
    if (failure === undefined) asked?.resolve(value);
    else asked?.reject(Failure.fromJson(failure));
  };
  const ask = async (method: keyof ReplicaEndpoint, all: readonly unknown[]): Promise<unknown> => {
    const signal = all.find((parameter) => parameter instanceof AbortSignal);
    const parameters = all.filter((parameter) => !(parameter instanceof AbortSignal));
    if (method === 'put') parameters[BODY] = await whole(parameters[BODY] as AsyncIterable<Uint8Array>);
    signal?.throwIfAborted();
    if (!channel.connected) throw new Failure('unreachable', 'the other host is dead');
    const call = ++calls;
    const asked = Promise.withResolvers<unknown>();
    waiting.set(call, asked);
    signal?.addEventListener('abort', () => asked.reject(signal.reason), { once: true });
    send({ of: 'endpoint', call, method, parameters });
    return await asked.promise;
  };
  // An endpoint is nothing but its methods, and a question nothing but its parameters.
  return new Proxy({} as ReplicaEndpoint, {
    get: (_target, method) =>
      method === 'then' || method === 'back'
        ? undefined
        : (...all: unknown[]) => ask(method as keyof ReplicaEndpoint, all),
  });
}

async function whole(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of body) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

function withBody(parameters: readonly unknown[]): unknown[] {
  const body = Buffer.from(parameters[BODY] as Uint8Array);
  return parameters.with(
    BODY,
    (async function* () {
      yield await Promise.resolve(body);
    })(),
  );
}
