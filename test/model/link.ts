/** The network between the hosts: a call may get lost, its answer may, it may come late or twice, or the other host comes in between. */
import { Failure } from '../../src/model/failure.ts';
import type { ReplicaEndpoint, ReplicaStatus } from '../../src/protocol/endpoint.ts';
import { Dead, Paused, type Life, type Run } from './run.ts';
import { other, type HostName } from './world.ts';

type Method = Exclude<keyof ReplicaEndpoint, 'remove' | 'back'>;
/** How a host answers: made by `host.ts`. */
export type Answering = (run: Run, host: HostName) => ReplicaEndpoint;

/** What changes something where it arrives: only that is worth arriving late or twice. */
const CHANGING = new Set<Method>(['prepare', 'put', 'confirm', 'takeOver']);

export function linkFrom(life: Life, answering: Answering): ReplicaEndpoint {
  const call =
    <T>(method: Method) =>
    async (...args: unknown[]): Promise<T> =>
      (await exchange(
        life,
        answering,
        method,
        args.filter((arg) => !(arg instanceof AbortSignal)),
      )) as T;
  const put = call<ReplicaStatus>('put');
  return {
    prepare: call('prepare'),
    status: call('status'),
    durableOffset: call('durableOffset'),
    confirm: call('confirm'),
    digests: call('digests'),
    takeOver: call('takeOver'),
    lease: call('lease'),
    remove: () => Promise.reject(new Failure('internal', 'removing is not explored')),
    put: async (id, log, offset, body) => {
      let text = '';
      for await (const chunk of body) text += new TextDecoder().decode(chunk);
      return await put(id, log, offset, text);
    },
  };
}

/** Delivers a call; what a call in JSON can't be, the text of a log, becomes a stream again. */
export async function deliver(
  run: Run,
  to: HostName,
  answering: Answering,
  method: Method,
  args: readonly unknown[],
): Promise<unknown> {
  const endpoint = answering(run, to);
  try {
    if (method === 'put') {
      const [id, log, offset, text] = args as [string, { sequence: number; logId: string }, number, string];
      return await endpoint.put(id, log, offset, once(text));
    }
    return await (endpoint[method] as (...all: unknown[]) => Promise<unknown>)(...args);
  } catch (error) {
    if (error instanceof Dead) throw new Failure('unreachable', `${to} died`);
    if (error instanceof Paused) throw new Failure('timeout', `${to} takes its time`);
    throw error;
  }
}

async function* once(text: string): AsyncGenerator<Uint8Array> {
  yield new TextEncoder().encode(text);
}

async function exchange(life: Life, answering: Answering, method: Method, args: unknown[]): Promise<unknown> {
  const { run, host } = life;
  const { world } = run;
  const to = other(host);
  life.live();
  const unreachable = () => new Failure('unreachable', `${to} can't be reached`);
  const reachable = () => !world.cut && world.hosts[to].up;
  if (!reachable()) throw unreachable();

  const what = `${host}'s ${method}`;
  const LOST = `${what} gets lost`;
  const UNANSWERED = `the answer to ${what} gets lost`;
  const LATE = `${what} is on its way for long`;
  const TWICE = `${what} arrives, and will arrive again`;
  const options = [''];
  if (world.budget.messages > 0) {
    options.push(LOST, UNANSWERED);
    if (CHANGING.has(method)) options.push(LATE, TWICE);
  }
  const before = world.budget.interruptions > 0 ? run.interruptions(run) : [];
  const fault = options.length;
  options.push(...before.map(({ words }) => `before ${what} arrives: ${words}`));
  options.push(...before.map(({ words }) => `before the answer to ${what} arrives: ${words}`));
  const taken = run.choose(options);
  const chosen = options[taken]!;
  if (taken > 0 && taken < fault) world.budget.messages--;

  const interrupt = async (index: number) => {
    const option = before[index];
    if (option === undefined) return;
    world.budget.interruptions--;
    await option.act();
    life.live();
  };
  if (chosen === LOST) throw unreachable();
  if (chosen === LATE || chosen === TWICE) world.late.push({ to, method, args });
  if (chosen === LATE) throw new Failure('timeout', `${to} did not answer`);
  if (taken >= fault && taken < fault + before.length) {
    await interrupt(taken - fault);
    if (!reachable()) throw unreachable();
  }
  const answer = await deliver(run, to, answering, method, args);
  if (taken >= fault + before.length) {
    await interrupt(taken - fault - before.length);
    if (world.cut) throw unreachable();
  }
  life.live();
  if (chosen === UNANSWERED) throw new Failure('interrupted', `the answer of ${to} got lost`);
  learn(life, answer);
  return answer;
}

/** What a daemon is told, it knows. */
function learn(life: Life, answer: unknown): void {
  life.here.memory.answered++;
  if (answer === null || typeof answer !== 'object' || !('role' in answer)) return;
  const { role, epoch } = answer as ReplicaStatus;
  if (role === 'replica') life.here.knows = 0;
  else if (epoch > (life.here.record?.epoch ?? 0)) life.here.knows = epoch;
}
