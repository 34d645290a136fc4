/** What a person does about a relationship when a fault is over: as little as the product asks for. */
import { asFailure } from '../../../src/model/failure.ts';
import { Violation } from './violation.ts';
import type { Host, Replication } from './host.ts';
import type { Relation } from './relation.ts';

/** What is to become of a failover that is neither completed nor cancelled. */
export type Decision = 'cancel' | 'reverse';

const RUNS_BY_FAILOVER = new Set(['FailedOverWaitingCompletion', 'FailedOver']);
/** What the guest does where it has been brought by a failover. */
const CHANGES = 8;

/**
 * Brings a relationship to where it heals by itself: a test ends, a failover is decided, a pause ends. Both daemons run, and the
 * way between them is open.
 */
export async function lookAfter(relation: Relation, decision: Decision): Promise<void> {
  await idle(relation);
  for (const host of [relation.home, relation.standby]) {
    await endTest(relation, host);
    const view = await viewOf(relation, host);
    if (view.role === 'primary' && RUNS_BY_FAILOVER.has(view.state)) await decide(relation, host, decision);
  }
  await findHome(relation);
  await relation.runsOnHost(relation.home);
  await relation.mended();
  const { suspended } = await viewOf(relation, relation.home);
  if (suspended) await relation.goOn();
}

async function viewOf(relation: Relation, host: Host): Promise<Replication> {
  return await relation.insist(`to be known on ${host.name}`, async () => {
    const view = await host.view(relation.id);
    if (view === undefined) throw new Violation(`${relation.vmName} is not known on ${host.name}`);
    return view;
  });
}

async function idle(relation: Relation): Promise<void> {
  await relation.waitFor(
    () => 'to have no action under way',
    async () => {
      const { home, standby, id } = relation;
      const views = [await home.view(id), await standby.view(id)];
      return views.every((view) => view !== undefined && view.action === null);
    },
  );
}

async function endTest(relation: Relation, host: Host): Promise<void> {
  let why = '';
  await relation.waitFor(
    () => `to end its test on ${host.name}: ${why}`,
    async () => {
      const { testVms, action } = await viewOf(relation, host);
      if (testVms.length === 0) return action === null;
      await host.act('testFailoverStop', { ref: relation.id }).catch((error: unknown) => {
        why = asFailure(error).message;
      });
      return false;
    },
  );
}

/** The VM runs on a host by a failover: it goes back, or stays and is protected by the other one. */
async function decide(relation: Relation, host: Host, decision: Decision): Promise<void> {
  await failedOver(relation, host);
  const { past, guests, home } = relation;
  const { state } = await viewOf(relation, host);
  if (decision === 'cancel' && state === 'FailedOverWaitingCompletion') past.begin(guests.get(home)!.images);
  else if (home !== host) {
    past.mayBeFound(guests.get(home)!.images);
    past.begin(guests.get(host)!.images);
    relation.turnTo(host);
  }
  let why = '';
  await relation.waitFor(
    () => `to an end of its failover to ${host.name}: ${why}`,
    async () => {
      const now = await viewOf(relation, host);
      if (now.role !== 'primary' || !RUNS_BY_FAILOVER.has(now.state)) return now.action === null;
      const cancels = decision === 'cancel' && now.state === 'FailedOverWaitingCompletion';
      await host
        .act(cancels ? 'cancelFailover' : 'reverseReplication', { ref: relation.id })
        .catch((error: unknown) => (why = asFailure(error).message));
      return false;
    },
  );
  relation.failedOver = undefined;
}

/** It runs from disks that hold the point that was chosen, and its guest goes on from there. */
export async function failedOver(relation: Relation, host: Host): Promise<void> {
  if (relation.failedOver === host) return;
  const { id, vmId, vmName, past } = relation;
  const { failover } = await viewOf(relation, host);
  const points = await relation.insist('to list its points', () => host.client.call('pointList', { ref: id }));
  const point = points.find(({ sequence }) => sequence === failover?.point);
  if (point === undefined) throw new Violation(`${vmName} runs on ${host.name} from a point that isn't there`);
  await relation.runsOnHost(host);
  const wrong: (string | null)[] = [];
  for (const images of past.at(point)) {
    relation.runsOn(host, images);
    wrong.push(await relation.guests.get(host)!.difference(host.socket(vmId)));
    if (wrong.at(-1) === null) break;
  }
  if (wrong.at(-1) !== null) {
    throw new Violation(`${vmName} runs on ${host.name} from point ${point.sequence}, but ${wrong.join(' or ')}`);
  }
  await relation.guests.get(host)!.work(host.socket(vmId), CHANGES);
  relation.failedOver = host;
}

/** A planned failover may have come to its end, or have been taken back. */
async function findHome(relation: Relation): Promise<void> {
  const { home, standby, id } = relation;
  await relation.waitFor(
    () => 'to have one primary',
    async () => {
      const [here, there] = [await home.view(id), await standby.view(id)];
      if (here?.action !== null || there?.action !== null) return false;
      if (here.role === 'primary' && here.state !== 'SteppedDown') return there.role === 'replica';
      if (there.role !== 'primary' || here.role !== 'replica') return false;
      relation.runsOn(standby, relation.guest.images); // a planned failover has taken all along
      relation.turnTo(standby);
      return true;
    },
  );
}
