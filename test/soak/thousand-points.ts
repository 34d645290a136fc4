/**
 * A thousand recovery points of a real guest: the latest and the oldest are started under libvirt by the front door, and
 * `virsh start` of the same domain beside them.
 */
import assert from 'node:assert/strict';
import { LabGuest } from '../../lab/guest/guest.ts';
import { VM, TwoHosts } from '../system/two-hosts.ts';
import type { Campaign } from './campaign.ts';
import { addPoints } from './many-points.ts';

const POINTS = 1000;
const TEST_VM = `${VM} - Test`;
/** Each thing is timed so often. */
const TIMES = 3;

type Times = Map<string, number[]>;

async function timed(times: Times, what: string, work: () => Promise<unknown>): Promise<void> {
  const started = performance.now();
  await work();
  times.set(what, [...(times.get(what) ?? []), performance.now() - started]);
}

/** The median and the worst, s. */
function summary(times: Times): string {
  const seconds = (ms: number) => (ms / 1000).toFixed(2);
  return [...times]
    .map(([what, all]) => [what, all.toSorted((a, b) => a - b)] as const)
    .map(([what, all]) => `${what} ${seconds(all[all.length >> 1]!)} s (${seconds(all.at(-1)!)})`)
    .join(', ');
}

/** The guest comes up, with records that are whole. */
async function boots(guest: LabGuest): Promise<void> {
  await guest.agent.wait();
  const { vda, vdb } = await guest.checkInside();
  assert.equal(vda.bad + vdb.bad + vda.gaps + vdb.gaps, 0, `${guest.name} finds damaged records`);
}

async function measure({ a, b, guestOnB }: TwoHosts, seed: number, progress: (text: string) => void): Promise<Times> {
  const times: Times = new Map();
  await a.host.virsh('destroy', VM);
  await a.stop();
  await b.stop();
  const { id } = await addPoints(b.host.path('/var/lib/understudy/replicas'), POINTS, seed);
  progress(`${POINTS} points of ${id}`);
  await timed(times, 'daemon start', () => b.start());
  let points = await b.client.call('pointList', { ref: VM });
  await timed(times, 'list of points', () => b.client.call('pointList', { ref: VM }));
  assert.equal(points.length, POINTS);
  const oldest = points.at(-1)!.sequence;
  const copy = new LabGuest(b.host, TEST_VM);
  for (let i = 0; i < TIMES; i++) {
    await timed(times, 'failover to the latest', () => b.act('unplannedFailover', { ref: VM }));
    if (i === 0) await boots(guestOnB);
    await b.host.virsh('destroy', VM);
    await timed(times, 'virsh start', () => b.host.virsh('start', VM));
    await b.act('cancelFailover', { ref: VM });
    await timed(times, 'failover to the oldest', () => b.act('unplannedFailover', { ref: VM, point: oldest }));
    if (i === 0) await boots(guestOnB);
    await b.act('cancelFailover', { ref: VM });
    await timed(times, 'test of the oldest by a view', () => b.act('testFailoverStart', { ref: VM, point: oldest }));
    if (i === 0) await boots(copy);
    await b.act('testFailoverStop', { ref: VM });
    progress(summary(times));
  }
  points = await b.client.call('pointList', { ref: VM });
  assert.equal(points.length, POINTS, 'all points are there as before');
  return times;
}

export const thousandPoints: Campaign = {
  name: 'thousand-points',
  about: `${POINTS} points of a guest under libvirt: the latest and the oldest are started, and timed`,
  async round({ seed, progress }) {
    const config = { guest: { rewriteKiB: 64 } };
    await using hosts = await TwoHosts.create('soak-points', config);
    await hosts.a.client.call('replicationEnable', { vm: VM, peer: 'b', intervalSeconds: 5, history: POINTS });
    await hosts.a.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating', 120_000);
    return summary(await measure(hosts, seed, progress));
  },
};
