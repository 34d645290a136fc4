/**
 * A step: every guest works, replication goes on, something happens, it is mended; then every relationship gets well again by
 * itself, every point is compared, and nothing is left over.
 */
import { sleep } from '../../../src/lib/clock.ts';
import { checkDisks, checkPoints, checkRunners } from './checks.ts';
import { FAULTS, type Fault, type Happened } from './faults.ts';
import { checkTidy } from './left-overs.ts';
import { lookAfter, type Decision } from './person.ts';
import type { Relation } from './relation.ts';
import type { World } from './world.ts';

/** Most changes of a guest in a step, twice. */
const CHANGES = 24;
/** From the beginning of a cycle until something happens, at most; ms. */
const SOON_MS = 400;
const OF_ONE = FAULTS.filter(({ hits }) => hits === 'one');

export interface StepReport {
  /** Faults, by how many relationships they hit. */
  readonly rounds: number;
  readonly points: number;
  readonly what: string;
}

interface Chosen {
  readonly fault: Fault;
  readonly relation: Relation;
}

export async function step(world: World, began: (what: string) => void): Promise<StepReport> {
  const { random, relations } = world;
  const faults = chooseFaults(world);
  const [{ fault: first }] = faults as [Chosen, ...Chosen[]];
  // A fault of the whole world may come while the guests write; a person does nothing then.
  const whileWriting = faults.length === 1 && first.hits === 'all' && random(4) === 0;
  const words = faults.map(
    ({ fault, relation }) => `${fault.name}${fault.hits === 'one' ? ` (${relation.vmName})` : ''}`,
  );
  const what = `${words.join(' and ')}${whileWriting ? ', while guests write' : ''}`;
  began(what);
  const works = relations.map((relation) => relation.live(1 + random(CHANGES)));
  if (!whileWriting) await Promise.all(works);
  await sleep(random(SOON_MS));
  const happenings = await Promise.all(faults.map((chosen) => happen(world, chosen, faults.length === 1)));
  await sleep(random(SOON_MS));
  await world.heal();
  await Promise.all(works);
  await Promise.all(happenings.map(async (happening) => await happening?.underWay));
  const healed = Date.now();
  const decision: Decision = random(2) === 0 ? 'cancel' : 'reverse';
  await Promise.all(relations.map((relation) => getWell(relation, { decision, healed, changes: 1 + random(CHANGES) })));
  const points = await check(world);
  const rounds = faults.reduce((sum, { fault }) => sum + (fault.hits === 'all' ? relations.length : 1), 0);
  return { rounds, points, what };
}

/** One fault, or two; beside one that hits one relationship most others have one of their own. */
function chooseFaults(world: World): Chosen[] {
  const { random, relations } = world;
  const first = { fault: choose(world, FAULTS), relation: relations[random(relations.length)]! };
  if (first.fault.hits === 'one' && random(4) > 0) {
    const others = relations.filter((relation) => relation !== first.relation && random(4) > 0);
    return [first, ...others.map((relation) => ({ fault: choose(world, OF_ONE), relation }))];
  }
  if (random(4) > 0) return [first];
  return [first, { fault: choose(world, FAULTS), relation: relations[random(relations.length)]! }];
}

function choose({ random }: World, faults: readonly Fault[]): Fault {
  let left = random(faults.reduce((sum, { weight }) => sum + weight, 0));
  return faults.find(({ weight }) => (left -= weight) < 0)!;
}

async function happen(world: World, { fault, relation }: Chosen, alone: boolean): Promise<Happened | void> {
  const tell = (text: string) => world.say(`  ${fault.name}: ${text}`);
  return await fault.happen({ world, relation, alone, tell });
}

interface Recovery {
  readonly decision: Decision;
  /** From when on nothing was broken any more, ms since the epoch. */
  readonly healed: number;
  readonly changes: number;
}

/** Heals, by itself but for what only a person decides; then the guest goes on. */
async function getWell(relation: Relation, { decision, healed, changes }: Recovery): Promise<void> {
  await lookAfter(relation, decision);
  await relation.protectedSince(healed);
  await relation.work(changes);
  const worked = Date.now();
  await relation.goOn();
  await relation.protectedSince(worked);
  await relation.hold();
}

async function check(world: World): Promise<number> {
  const { hosts, relations, scratch } = world;
  const checkRelation = async (relation: Relation): Promise<number> => {
    await relation.applied();
    await checkDisks(relation);
    return await checkPoints(relation, scratch);
  };
  await Promise.all(hosts.map((host) => checkRunners(host, relations)));
  const points = await Promise.all(relations.map(checkRelation));
  await Promise.all(hosts.map((host) => checkTidy(host, relations)));
  return points.reduce((sum, count) => sum + count, 0);
}
