/** What holds whenever all is well: every recovery point is what the disks held at its instant; one copy runs; nothing is left over. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isAway, type Host, type Point } from './host.ts';
import { asFailure } from '../../../src/model/failure.ts';
import type { Images } from './past.ts';
import type { Relation } from './relation.ts';
import { Violation } from './violation.ts';

/** Compares every point of a relationship, which is held, with the oracle; gives how many there were. */
export async function checkPoints(relation: Relation, scratch: string): Promise<number> {
  const { past, retention, vmName, guest } = relation;
  const points = await relation.points();
  const most = 1 + retention.history + retention.thin.reduce((sum, { count }) => sum + count, 0);
  if (points.length === 0) throw new Violation(`${vmName} has no point`);
  if (points.length > most) throw new Violation(`${vmName} has ${points.length} points, ${most} are to be kept`);
  for (const [i, point] of points.entries()) {
    const moments = past.at(point);
    if (moments.length === 0)
      throw new Violation(
        `${tell(point)} of ${vmName} is of no moment when its disks stood still: ${past.tell(point.instant)}`,
      );
    await checkPoint(relation, { point, wanted: i === 0 ? [guest.images] : moments, scratch });
  }
  past.forgetBefore(Math.min(...points.map(({ instant }) => instant)));
  return points.length;
}

async function checkPoint(
  relation: Relation,
  { point, wanted, scratch }: { point: Point; wanted: readonly Images[]; scratch: string },
): Promise<void> {
  const { guest, vmName } = relation;
  const found: Buffer[] = [];
  for (const { target } of guest.disks) found.push(await readPoint(relation, { point, target, scratch }));
  const wrong = wanted.map((images) =>
    guest.disks.flatMap(({ target }, i) => {
      const difference = images[i]!.difference(found[i]!);
      return difference === null ? [] : [`${target}: ${difference}`];
    }),
  );
  if (!wrong.some((differences) => differences.length === 0)) {
    throw new Violation(
      `${tell(point)} of ${vmName} is not what its disks held: ${wrong.map((all) => all.join('; ')).join(' or ')}`,
    );
  }
}

function tell({ sequence, epoch, kind, instant }: Point): string {
  return `point ${sequence} (epoch ${epoch}, ${kind}, instant ${instant})`;
}

async function readPoint(
  relation: Relation,
  { point, target, scratch }: { point: Point; target: string; scratch: string },
): Promise<Buffer> {
  const { standby, id: ref, vmName } = relation;
  const file = join(scratch, `${vmName}-${target}`);
  const { sequence } = point;
  try {
    await relation.insist('to give a point', async () => {
      await rm(file, { force: true });
      return await standby.act('pointExport', { ref, point: sequence, disk: target, file, format: 'raw' });
    });
    return await readFile(file);
  } finally {
    await rm(file, { force: true });
  }
}

/** What the guest finds is what it wrote. */
export async function checkDisks({ guest, home, vmId, vmName }: Relation): Promise<void> {
  const wrong = await guest.difference(home.socket(vmId));
  if (wrong !== null) throw new Violation(`${vmName} on ${home.name} doesn't hold what its guest wrote: ${wrong}`);
}

/** On this host run the VMs whose home it is, and no others. */
export async function checkRunners(host: Host, relations: readonly Relation[]): Promise<void> {
  const states = await statesOn(host);
  for (const { home, vmId, vmName } of relations) {
    const state = states.get(vmId) ?? 'off';
    const wanted = host === home ? 'running' : 'off';
    if (state !== wanted) throw new Violation(`${vmName} is ${state} on ${host.name}, where it should be ${wanted}`);
  }
}

async function statesOn(host: Host): Promise<Map<string, string>> {
  try {
    return await host.vms();
  } catch (error) {
    const failure = asFailure(error);
    throw isAway(failure) ? new Violation(`${host.name} does not answer: ${failure.message}`) : failure;
  }
}
