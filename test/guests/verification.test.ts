/**
 * What an administrator sees of verification and scrub, by the command line alone: a real guest, a replica's disk that changes behind the
 * product's back, found, named, mended.
 */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import type { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { until } from '../../src/lib/clock.ts';
import { run } from '../../src/lib/process.ts';
import { flipStoredAt, storedRuns } from '../faults/corruption.ts';
import { assertByteEqual } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, protectedNow } from '../system/two-hosts.ts';

const BLOCK = 65_536;
const FILLER_MIB = 16;
const PATIENCE_MS = 120_000;
const TIME = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`;

const stage = stages();
let hosts: TwoHosts;
/** Bytes of vda that the guest leaves alone: a MiB and more of its filler. */
let quiet: number;

before(async () => {
  const vda = { sizeMiB: 64, fillerMiB: FILLER_MIB };
  hosts = await TwoHosts.create('guest-verification.test', { guest: { vda, rewriteKiB: 1, rate: 1 } });
  await hosts.replicate();
  await protectedNow(hosts.a);
  const runs = await storedRuns(await imageOf(hosts.a));
  const longest = runs.toSorted((x, y) => y.length - x.length)[0]!;
  assert.ok(longest.length >= 4 * 2 ** 20, 'the filler lies in one piece');
  quiet = Math.ceil((longest.start + longest.length / 2) / BLOCK) * BLOCK;
});
after(() => hosts?.[Symbol.asyncDispose]());

/** What the command prints; it must succeed. */
async function understudy(daemon: HostDaemon, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run('sh', ['-c', `${daemon.cliCommand} ${args.join(' ')}`]);
  assert.equal(code, 0, `understudy ${args.join(' ')}: ${stdout}${stderr}`);
  console.log(`${daemon.host.name}$ understudy ${args.join(' ')}\n${stdout.trimEnd()}`);
  return stdout;
}

/** Where vda lies on a host, as seen from outside. */
async function imageOf(daemon: HostDaemon): Promise<string> {
  const { disks } = await daemon.show(VM);
  return daemon.host.path(disks.find(({ target }) => target === 'vda')!.path);
}

/** The lines of `replication show` under one name. */
async function shown(daemon: HostDaemon, name: string): Promise<string> {
  const lines = (await understudy(daemon, 'replication', 'show', VM)).split('\n');
  const first = lines.findIndex((line) => line.startsWith(name));
  assert.ok(first >= 0, `there is no line "${name}"`);
  const rest = lines.slice(first + 1);
  const next = rest.findIndex((line) => !line.startsWith(' '));
  return [lines[first]!, ...rest.slice(0, next)].join('\n');
}

/** So many blocks were found different since the beginning, and all of them are the same again. */
async function mended(blocks: number): Promise<void> {
  const { a, b, scratch } = hosts;
  await a.waitFor(VM, 'mended', ({ verification }) => verification?.repaired === blocks, PATIENCE_MS);
  assert.match(
    await shown(a, 'verified'),
    new RegExp(`^verified: +equal at .*\n +${blocks} blocks differed so far, ${blocks} mended$`),
  );
  await b.waitFor(VM, 'whole', ({ scrub }) => scrub?.unrepairedBytes === 0, PATIENCE_MS);
  await until(async () => !(await understudy(b, 'replication', 'show', VM)).includes('damaged'), {
    timeoutMs: PATIENCE_MS,
    onTimeout: () => new Error('the replica is still said to be damaged'),
  });
  if ((await hosts.guest.state()) === 'running') await assertByteEqual(a, b, scratch);
}

stage('both sides hold the same: said with its times, and when it is proven next', async () => {
  const { a } = hosts;
  assert.match(await understudy(a, 'verify', VM), /^web was compared with its replica on b in .*: both hold the same/);
  assert.match(
    await shown(a, 'verified'),
    new RegExp(`^verified: +equal at ${TIME} \\(chain\\); last full pass ${TIME} to ${TIME}; next due ${TIME}$`),
  );
});

stage('a byte of the replica that changes while the guest runs is found, named and sent again', async () => {
  const { a, b } = hosts;
  await flipStoredAt(await imageOf(b), quiet + 1234, 3);
  assert.match(await understudy(a, 'verify', VM), /: 1 blocks differed, /);
  const events = await understudy(a, 'event', 'list', VM);
  assert.match(
    events,
    new RegExp(`vda differs at the replica: 64 KiB at ${quiet} \\(changed at the replica since it was written\\)`),
  );
  await mended(1);
  assert.match(
    await understudy(a, 'event', 'list', VM),
    /1 blocks of vda that had differed are the same on both sides again/,
  );
});

stage('what was written to the image while nobody had it open is found, too', async () => {
  const { a, b } = hosts;
  const image = await imageOf(b);
  const at = quiet + 4 * BLOCK;
  await b.stop();
  const { code, stdout, stderr } = await run('qemu-io', ['-f', 'qcow2', '-c', `write -P 0x5a ${at} 512`, image]);
  assert.equal(code, 0, stdout + stderr);
  await b.start();
  await protectedNow(a, PATIENCE_MS);
  assert.match(await understudy(a, 'verify', VM), /: 1 blocks differed, /);
  assert.match(
    await understudy(a, 'event', 'list', VM),
    new RegExp(`vda differs at the replica: 64 KiB at ${at} \\(neither side knows which has changed\\)`),
  );
  assert.match(
    await understudy(b, 'event', 'list', VM),
    /disk vda of the replica was written while understudyd did not use it/,
  );
  await mended(2);
});

stage('the scrub of the replica finds the same by itself, and says what it did', async () => {
  const { a, b } = hosts;
  // Also while a pass of its own schedule is under way, and is past it.
  await flipStoredAt(await imageOf(b), quiet + 8 * BLOCK, 0);
  assert.match(await understudy(b, 'scrub', VM), /the replica of web was checked in .*: 1 pieces of damage were found/);
  assert.match(await understudy(b, 'event', 'list', VM), new RegExp(`vda.*${quiet + 8 * BLOCK}`));
  assert.match(await shown(b, 'at rest'), new RegExp(`checked as a whole ${TIME} to ${TIME}; next due ${TIME}`));
  await b.waitFor(VM, 'sent again', ({ scrub }) => scrub?.unrepairedBytes === 0, PATIENCE_MS);
  assert.match(await understudy(b, 'scrub', VM), /all of it is what was written|0 pieces/);
  await assertByteEqual(a, b, hosts.scratch);
});

stage('off, the VM is compared at one instant; the side that has changed is named', async () => {
  const { a, b, guest } = hosts;
  const { verification } = await a.show(VM);
  await guest.shutdown();
  await protectedNow(a, PATIENCE_MS);
  assert.match(await understudy(a, 'verify', VM), /: both hold the same\n$/); // nothing was left out
  await flipStoredAt(await imageOf(b), quiet + 12 * BLOCK, 0);
  await flipStoredAt(await imageOf(a), quiet + 16 * BLOCK, 0);
  assert.match(await understudy(a, 'verify', VM), /: 2 blocks differed, /);
  const events = await understudy(a, 'event', 'list', VM);
  assert.match(events, new RegExp(`64 KiB at ${quiet + 12 * BLOCK} \\(changed at the replica since it was written\\)`));
  assert.match(
    events,
    new RegExp(`64 KiB at ${quiet + 16 * BLOCK} \\(changed at the primary without being tracked\\)`),
  );
  await mended(verification!.repaired + 2);
});
