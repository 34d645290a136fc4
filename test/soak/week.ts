/** A protected VM lives through a week: all that an administrator does to it, in random order, with cycles going on. */
import { seeded } from '../../bench/images/random.ts';
import { backportsOrWhyNot } from '../../lab/hosts/backports.ts';
import { sleep } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import type { Campaign, Outcome, Round } from './campaign.ts';
import { equal, standing, wellAfter } from './week/judge.ts';
import { inRandomOrder } from './week/operations.ts';
import { Violation, Week } from './week/world.ts';

const SHORTEST = 8;
/** So often all bytes are compared. */
const COMPARED_EVERY = 10;
/** So that an operation meets any moment of a cycle. */
const LONGEST_DELAY_MS = 5000;

/** Until the minutes are over, or so many operations are done: whichever is first; at least a few. */
export async function liveThrough(
  { seed, minutes, operations, progress, signal }: Round,
  usr?: string,
): Promise<Outcome> {
  const most = operations ?? (minutes > 0 ? Infinity : SHORTEST);
  const deadline = minutes > 0 ? performance.now() + minutes * 60_000 : Infinity;
  const random = seeded(seed);
  await using week = await Week.begin('soak-week', random, usr);
  const violations: string[] = [];
  let done = 0;
  let name = '';
  let compared = 0;
  try {
    for (const operation of inRandomOrder(random)) {
      if (done >= most || performance.now() > deadline || signal.aborted) break;
      ({ name } = operation);
      await sleep(random(LONGEST_DELAY_MS));
      const before = await standing(week);
      const began = performance.now();
      const wrong: string[] = [];
      await operation.perform(week).catch((error: unknown) => {
        if (!(error instanceof Violation)) throw error;
        wrong.push(error.message);
      });
      wrong.push(...(await wellAfter(week, operation, before)));
      done++;
      progress(`${done}. ${name}: well after ${((performance.now() - began) / 1000).toFixed(1)} s`);
      for (const text of wrong) progress(`VIOLATION, seed ${seed}, operation ${done}, ${name}: ${text}`);
      violations.push(...wrong.map((text) => `operation ${done}, ${name}: ${text}`));
      if (done % COMPARED_EVERY === 0) {
        await equal(week);
        compared++;
      }
    }
    name = 'the end';
    await equal(week);
    compared++;
  } catch (error) {
    progress(`VIOLATION, seed ${seed}, operation ${done + 1}, ${name}: ${String(error)}`);
    violations.push(`operation ${done + 1}, ${name}: ${String(error)}`);
  }
  for (const said of new Set(week.refusals)) progress(`refused at first: ${said.replaceAll('\n', ' ')}`);
  return {
    rounds: done,
    found: `${done} operations, compared ${compared} times; ${week.refusals.length} times a command was refused while a cycle had the VM, and given again`,
    ...(violations.length > 0 ? { violation: violations.join('; ') } : {}),
  };
}

export const week: Campaign = {
  name: 'week',
  about:
    'all that an administrator does to a protected VM, in random order (--operations N): replication goes on by itself',
  round: (round) => liveThrough(round),
};

export const newerWeek: Campaign = {
  name: 'newer-week',
  about: 'the same on the libvirt and QEMU of the backports, where there are any',
  async round(round): Promise<Outcome> {
    const usr = await backportsOrWhyNot();
    return usr instanceof Failure ? { rounds: 0, found: usr.message } : await liveThrough(round, usr);
  },
};
