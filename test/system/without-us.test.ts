/**
 * docs/without-us.md, as it is written: its commands, on hosts without a running daemon. The tests build on each other.
 */
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import type { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import type { LabGuest } from '../../lab/guest/guest.ts';
import type { LabHost } from '../../lab/hosts/host.ts';
import { until } from '../../src/lib/clock.ts';
import { pointsOf } from './equality.ts';
import { assertRecordsGood } from './records-inside.ts';
import { stages } from './stages.ts';
import { TwoHosts, VM, hurry, protectedNow } from './two-hosts.ts';

const DOCS = join(import.meta.dirname, '../../docs');
const DISKS = ['vda', 'vdb'] as const;

/** Commands of the page by the name in the comment before them. */
const commands = new Map(
  [...readFileSync(join(DOCS, 'without-us.md'), 'utf8').matchAll(/<!-- run: (\S+) -->\n```sh\n([^]*?)```/g)].map(
    ([, name, text]) => [name!, text!],
  ),
);
const unused = new Set(commands.keys());

/** Runs a block as a person would who has the page's names set, in the directory of the page's examples. */
async function follow(host: LabHost, name: string): Promise<string> {
  unused.delete('names');
  unused.delete(name);
  const block = commands.get(name) ?? assert.fail(`the page has no commands "${name}"`);
  return await host.succeed(['sh', '-eu', '-c', `cd '${DOCS}/examples'\n${commands.get('names')!}\n${block}`]);
}

const stage = stages();
let hosts: TwoHosts;
let onB: LabGuest;
/** The last record that the guest had written on both disks before its host was cut off. */
let last: number;
let oldest: { sequence: number; exported: string[] };

before(async () => {
  hosts = await TwoHosts.create('without-us.test', { guest: { rate: 10 } });
  onB = hosts.guestOnB;
});
after(() => hosts?.[Symbol.asyncDispose]());

/** A point of now, without waiting for the interval. */
async function point(primary: HostDaemon): Promise<void> {
  const level = protectedNow(primary);
  await hurry(primary);
  await level;
}

async function lastRecord(guest: LabGuest): Promise<number> {
  const { vda, vdb } = await guest.checkInside();
  return Math.min(vda.last ?? 0, vdb.last ?? 0);
}

async function compare(host: LabHost, one: [string, string], other: [string, string]): Promise<void> {
  const { code, stdout } = await host.exec([
    'qemu-img',
    'compare',
    '-U',
    '-f',
    one[0],
    '-F',
    other[0],
    one[1],
    other[1],
  ]);
  assert.equal(code, 0, stdout);
}

stage('a replica with a few points; then both daemons end', async () => {
  const { a, b, guest, scratch } = hosts;
  await hosts.replicate();
  await point(a);
  last = await lastRecord(guest);
  await point(a);
  const { sequence } = (await pointsOf(b)).at(-1)!;
  const exported = DISKS.map((disk) => join(scratch, `${disk}.raw`));
  for (const [i, disk] of DISKS.entries()) {
    await b.act('pointExport', { ref: VM, point: sequence, disk, file: exported[i]!, format: 'raw' });
  }
  oldest = { sequence, exported };
  await a.stop();
  await until(
    async () =>
      !(await follow(b.host, 'is-applied').then(
        () => false,
        () => true,
      )),
    {
      timeoutMs: 10_000,
      onTimeout: () => new Error('what was received is not applied'),
    },
  );
  await b.stop();
  assert.ok(last > 0);
});

stage('the page names everything that is in a replica, and nothing else', async () => {
  const page = readFileSync(join(DOCS, 'without-us.md'), 'utf8');
  const named = [...page.matchAll(/^\| `([a-z.]+)/gm)].map(([, name]) => name!);
  const names = await hosts.b.host.succeed(['sh', '-eu', '-c', `${commands.get('names')!}\nls "$REPLICA"`]);
  const there = names.trim().split('\n');
  assert.deepEqual(
    there.filter((name) => !named.includes(name)),
    [],
  );
  assert.deepEqual(
    named.filter((name) => name !== 'views' && name !== 'damaged' && !there.includes(name)),
    [],
  );
});

stage('the newest state starts on overlays, with its records', async () => {
  const { host } = hosts.b;
  await follow(host, 'save');
  await follow(host, 'is-applied');
  await follow(host, 'newest');
  await onB.agent.wait();
  assert.ok((await lastRecord(onB)) >= last, 'everything that was acknowledged is there');
  await assertRecordsGood(onB);
  await follow(host, 'newest-back');
  await follow(host, 'digests');
  assert.equal(await onB.state(), 'shut off');
  await assert.rejects(host.virsh('start', VM), /this-VM-is-a-replica/);
});

stage('an older point is read by the script: what the daemon exports, byte for byte; and it starts', async () => {
  const { host } = hosts.b;
  const { sequence, exported } = oldest;
  const list = await host.succeed([
    'sh',
    '-eu',
    '-c',
    `${commands.get('names')!}\npython3 ${DOCS}/examples/read-point.py "$REPLICA"`,
  ]);
  const points = list
    .trim()
    .split('\n')
    .map((line) => Number(line.split('\t')[0]));
  assert.equal(points.at(-1), sequence);
  assert.deepEqual(
    points,
    points.toSorted((x, y) => y - x),
  );
  assert.ok(points.length >= 3, list);

  await host.succeed([
    'sh',
    '-eu',
    '-c',
    `${commands.get('names')!}\npython3 ${DOCS}/examples/read-point.py "$REPLICA" ${sequence} ${hosts.scratch}/read`,
  ]);
  for (const [i, disk] of DISKS.entries())
    await compare(host, ['raw', exported[i]!], ['raw', `${hosts.scratch}/read/${disk}.raw`]);
  rmSync(`${hosts.scratch}/read`, { recursive: true });

  await follow(host, 'older');
  await onB.agent.wait();
  await assertRecordsGood(onB);
  await follow(host, 'older-back');
  assert.equal(await onB.state(), 'shut off');
});

stage('nothing of it has touched the replica: the daemons go on where they were', async () => {
  const { a, b } = hosts;
  await Promise.all([a.start(), b.start()]);
  await protectedNow(a);
  assert.equal((await pointsOf(b)).at(-1)!.sequence, oldest.sequence);
  await a.stop();
  await b.stop();
});

stage('the primary is rid of us, running or off', async () => {
  const { a, guest } = hosts;
  const images = DISKS.map((disk) => guest.disk(disk));
  const nodes = '{"execute": "query-named-block-nodes", "arguments": {"flat": true}}';
  const inQemu = async () => (await a.host.virsh('qemu-monitor-command', VM, nodes)).includes('understudy-');
  assert.ok(await inQemu(), 'a bitmap of ours is there before');
  await follow(a.host, 'bitmaps-running');
  assert.ok(!(await inQemu()));
  await guest.shutdown();
  for (const path of images) await a.host.succeed(['qemu-img', 'bitmap', '--add', path, 'understudy-left-over']);
  await follow(a.host, 'bitmaps-off');
  for (const path of images) assert.doesNotMatch(await a.host.succeed(['qemu-img', 'info', path]), /understudy-/);
  await follow(a.host, 'autostart');
  assert.match(await a.host.virsh('dominfo', VM), /Autostart:\s+enable/);
  await guest.start();
  assert.ok((await lastRecord(guest)) >= last);
});

stage('every command of the page was run', () => {
  assert.deepEqual([...unused], []);
  return Promise.resolve();
});
