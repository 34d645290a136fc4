/**
 * A hypervisor in the parent process, used by a child that is about to be killed: VMs go on when the daemon dies, as on a
 * real host. Calls go over the channel that `fork` makes; the child's are answered in their order of arrival.
 */
import type { ChildProcess } from 'node:child_process';
import type { Hypervisor } from '../../src/hypervisor/hypervisor.ts';
import { asFailure, Failure, type FailureJson } from '../../src/model/failure.ts';
import type { HostName } from './two-hosts.ts';

interface Asked {
  readonly host: HostName;
  readonly call: number;
  readonly method: keyof Hypervisor;
  readonly parameters: readonly unknown[];
}

interface Answered {
  readonly call: number;
  readonly value?: unknown;
  readonly failure?: FailureJson;
}

/** In the parent: answers a child until it is gone. Gives what waits for the calls that were under way then. */
export function serveHypervisors(
  child: ChildProcess,
  hypervisors: Readonly<Record<HostName, Hypervisor>>,
): () => Promise<void> {
  const underWay = new Set<Promise<void>>();
  const answer = async ({ host, call, method, parameters }: Asked): Promise<void> => {
    let answered: Answered;
    try {
      const work = hypervisors[host][method] as (...parameters: readonly unknown[]) => Promise<unknown>;
      answered = { call, value: await work.apply(hypervisors[host], [...parameters]) };
    } catch (error) {
      answered = { call, failure: asFailure(error).toJSON() };
    }
    if (child.connected) child.send(answered, () => undefined); // it may have died meanwhile
  };
  child.on('message', (asked: Asked) => {
    if ('of' in asked) return; // said to somebody else
    const work = answer(asked);
    underWay.add(work);
    void work.finally(() => underWay.delete(work));
  });
  return async () => void (await Promise.all(underWay));
}

const waiting = new Map<number, PromiseWithResolvers<unknown>>();
let calls = 0;
let listening = false;

/** In the child: the parent's hypervisor of a host. */
export function remoteHypervisor(host: HostName): Hypervisor {
  if (!listening) process.on('message', settle);
  listening = true;
  const ask = (method: keyof Hypervisor, parameters: readonly unknown[]): Promise<unknown> => {
    const call = ++calls;
    const answer = Promise.withResolvers<unknown>();
    waiting.set(call, answer);
    process.send!({ host, call, method, parameters } satisfies Asked);
    return answer.promise;
  };
  // A hypervisor is nothing but its methods, and a call nothing but its parameters.
  return new Proxy({} as Hypervisor, {
    get: (_target, method) =>
      method === 'then' ? undefined : (...parameters: unknown[]) => ask(method as keyof Hypervisor, parameters),
  });
}

function settle(answered: Answered): void {
  if ('of' in answered) return; // said to somebody else
  const { call, value, failure } = answered;
  const answer = waiting.get(call)!;
  waiting.delete(call);
  if (failure === undefined) answer.resolve(value);
  else answer.reject(Failure.fromJson(failure));
}
