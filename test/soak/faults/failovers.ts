/** Failovers of each kind, of one relationship; now and then one of the daemons dies at a step of the plan. */
import { sleep } from '../../../src/lib/clock.ts';
import { asFailure } from '../../../src/model/failure.ts';
import { forward } from '../../faults/crash-places.ts';
import { IN_MATERIALISING } from '../../faults/crash-points.ts';
import type { Fault, Happened, Happening } from './faults.ts';
import { isAway, type Host } from './host.ts';
import { failedOver } from './person.ts';
import { readDisk } from './guest.ts';
import { Violation } from './violation.ts';

/** One of so many failovers meets a death. */
const DEATHS = 3;
/** For so long the death is waited for, ms. */
const DEATH_MS = 10_000;
/** And for the end, where that comes before the world is mended; what is under way may wait for that. */
const END_MS = 10_000;

/** What a person asks for is begun; perhaps one of those who do it will die of it. */
async function begin(
  { world, tell }: Happening,
  plans: readonly (readonly [Host, string])[],
  ask: () => Promise<unknown>,
): Promise<Happened> {
  const [host, plan] = plans[world.random(plans.length)]!;
  const dies = world.random(DEATHS) === 0;
  if (dies) {
    const places = [...forward(plan), ...(plan === 'unplanned-failover' ? IN_MATERIALISING : [])];
    const place = places[world.random(places.length)]!;
    tell(`${host.name} dies at ${place}`);
    await host.reboot(place);
  }
  const underWay = world.asked(ask());
  const ended = underWay.then(() => false);
  if (dies) await Promise.race([host.dies(DEATH_MS), ended]);
  else if (world.random(2) === 0) await Promise.race([ended, sleep(END_MS)]);
  return { underWay };
}

async function test(happening: Happening): Promise<Happened> {
  const { world, relation } = happening;
  const { standby, id: ref, vmName, past } = relation;
  const plans = [[standby, 'test-failover-start'] as const, [standby, 'test-failover-stop'] as const];
  return await begin(happening, plans, async () => {
    const points = await relation.points();
    const point = points[world.random(points.length)];
    if (point === undefined) return;
    const { result } = await standby.act('testFailoverStart', { ref, point: point.sequence });
    const held = past.at(point);
    const found = await Promise.all(
      relation.guest.disks.map(({ target }) => readDisk(standby.socket(result!.vmId!), target)),
    );
    if (!held.some((images) => images.every((image, i) => image.difference(found[i]!) === null))) {
      throw new Violation(`the test VM of ${vmName} doesn't hold point ${point.sequence}`);
    }
    if (world.random(2) === 0) await standby.act('testFailoverStop', { ref });
  });
}

async function planned(happening: Happening): Promise<Happened> {
  const { home, standby, id: ref } = happening.relation;
  const plans = [[home, 'planned-failover'] as const, [standby, 'take-over'] as const];
  return await begin(happening, plans, () => home.act('plannedFailover', { ref }));
}

/** The old primary answers still, or is dead: then nobody needs to force it. */
async function unplanned(happening: Happening): Promise<Happened> {
  const { world, relation } = happening;
  const { home, standby, id: ref } = relation;
  const plans = [[standby, 'unplanned-failover'] as const, [standby, 'cancel-failover'] as const];
  const force = world.random(2) === 0;
  if (!force) await home.daemon.kill();
  return await begin(happening, plans, async () => {
    const points = await relation.points();
    const point = points[world.random(points.length)];
    if (point === undefined) return;
    await standby.act('unplannedFailover', { ref, point: point.sequence, force });
    await failedOver(relation, standby);
    if (world.random(3) > 0) return;
    relation.past.begin(relation.guest.images);
    await standby.act('cancelFailover', { ref });
    relation.failedOver = undefined;
  });
}

export const FAILOVERS: readonly Fault[] = [
  { name: 'a test failover', hits: 'one', weight: 4, happen: test },
  { name: 'a planned failover', hits: 'one', weight: 5, happen: planned },
  { name: 'an unplanned failover', hits: 'one', weight: 6, happen: unplanned },
];

/** What a person is told when something stands in the way of what is asked for. A violation is none of that. */
export async function unlessRefused(asked: Promise<unknown>, tell: (text: string) => void): Promise<void> {
  try {
    await asked;
  } catch (error) {
    if (error instanceof Violation) throw error;
    const failure = asFailure(error);
    if (failure.code === 'internal') throw error;
    if (!isAway(failure)) tell(`refused: ${failure.message}`);
  }
}
