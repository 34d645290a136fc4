/** Other programs that work on a protected VM: their backups, a while without us, and getting rid of us for good. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { promisify } from 'node:util';
import type { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { problems } from '../../lab/guest/records.ts';
import { until } from '../../src/lib/clock.ts';
import { assertByteEqual, pointsOf } from '../system/equality.ts';
import { assertRecordsGood } from '../system/records-inside.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, look, protectedNow } from '../system/two-hosts.ts';

const PATIENCE_MS = 60_000;

const run = promisify(execFile);
const stage = stages();
let hosts: TwoHosts;

before(async () => {
  hosts = await TwoHosts.create('guest-neighbours.test');
  await hosts.replicate();
});
after(() => hosts?.[Symbol.asyncDispose]());

/** What a person types, and reads. */
async function understudy(daemon: HostDaemon, ...args: string[]): Promise<string> {
  const [program, ...options] = daemon.cliCommand.split(' ') as [string, ...string[]];
  return (await run(program, [...options, ...args])).stdout;
}

/** Names of bitmaps in the images of the VM, as qemu-img shows them. */
async function bitmapsInImages(): Promise<string[]> {
  const { a, guest } = hosts;
  const names = ['vda', 'vdb'].map(async (target) => {
    const info = await a.host.succeed(['qemu-img', 'info', '-U', '--output=json', guest.disk(target as 'vda')]);
    const { data } = (JSON.parse(info) as { 'format-specific': { data: { bitmaps?: { name: string }[] } } })[
      'format-specific'
    ];
    return (data.bitmaps ?? []).map(({ name }) => name);
  });
  return (await Promise.all(names)).flat();
}

/** virtnbdrestore of all disks. It gives its qemu-nbd a second to listen, and fails when the machine is slower: it is asked again then. */
async function restore(host: HostDaemon['host'], backups: string, scratch: string): Promise<string> {
  for (const attempt of [1, 2, 3, 4]) {
    const restored = join(scratch, `restored-${attempt}`);
    const done = await host.exec(['virtnbdrestore', '-a', 'restore', '-i', backups, '-o', restored], {
      timeoutMs: 120_000,
    });
    if (done.code === 0) return restored;
    assert.match(done.stderr, /ENOENT|ECONNREFUSED|Unable to connect nbd server/);
  }
  throw new Error('virtnbdrestore came before its qemu-nbd four times');
}

stage('a backup job of another program is waited for, without noise', async () => {
  const { a, b, scratch } = hosts;
  const failedBefore = (await look(a)).statistics.failedCycles;
  const socket = join(tmpdir(), `us-other-${process.pid}.sock`); // where QEMU's user may make one
  const xml = join(scratch, 'other.xml');
  writeFileSync(xml, `<domainbackup mode='pull'><server transport='unix' socket='${socket}'/></domainbackup>`);
  const begun = async () => {
    try {
      await a.host.virsh('backup-begin', VM, xml);
      return true;
    } catch (error) {
      if (String(error).includes('already')) return false; // one of ours is open just now
      throw error;
    }
  };
  await until(begun, { timeoutMs: PATIENCE_MS, onTimeout: () => new Error('another program gets no turn') });
  const waits = await a.waitFor(VM, 'waiting', ({ failure }) => failure?.code === 'job-conflict', PATIENCE_MS);
  assert.equal(waits.state, 'Replicating');
  assert.match(await understudy(a, 'replication', 'list'), /waiting for another program/);
  // Long enough for several looks.
  await a.waitFor(VM, 'behind', ({ lagMs }) => (lagMs ?? 0) > 18_000, PATIENCE_MS);
  await a.host.virsh('domjobabort', VM);
  rmSync(socket, { force: true });
  await protectedNow(a);
  const events = await eventsOf(a);
  assert.equal((await look(a)).statistics.failedCycles, failedBefore, `a failure: ${events.join('\n')}`);
  const told = events.filter((event) => event.includes('job-conflict'));
  assert.equal(told.length, 1, told.join('\n'));
  await assertByteEqual(a, b, scratch);
});

stage('left alone with `understudy yield`: virtnbdbackup makes a full and an incremental backup', async () => {
  const { a, b, guest, scratch } = hosts;
  const target = join(scratch, 'virtnbdbackup');
  const backup = (level: string) =>
    a.host.succeed(['virtnbdbackup', '-U', 'qemu:///system', '-d', VM, '-l', level, '-o', target], {
      timeoutMs: 120_000,
    });
  assert.match(await understudy(a, 'yield', VM, '--for', '10m'), /is left alone until/);
  const cycles = (await look(a)).statistics.cycles;
  await backup('full');
  const yielded = await look(a);
  assert.equal(yielded.failure?.code, 'yielded');
  assert.equal(yielded.health, 'warning');
  assert.match(await understudy(a, 'replication', 'list'), /left to other programs/);
  await backup('inc');
  assert.equal((await look(a)).statistics.cycles, cycles, 'the domain was left alone');
  assert.match(await understudy(a, 'yield', VM, '--end'), /replication goes on/);
  await protectedNow(a);
  await assertByteEqual(a, b, scratch);

  // Theirs are left alone by our cycles, and ours by them: both go on.
  const theirs = await a.host.virsh('checkpoint-list', VM, '--name');
  assert.match(theirs, /^virtnbdbackup\.0\nvirtnbdbackup\.1$/);
  assert.match(
    await understudy(a, 'doctor', VM),
    /other programs +warning +not ours: checkpoints virtnbdbackup\.0, virtn/,
  );
  await understudy(a, 'yield', VM, '--for', '10m');
  await backup('inc');
  await understudy(a, 'replication', 'resume', VM);
  await protectedNow(a);
  assert.equal(readdirSync(target).filter((name) => /^vda\.inc\..*\.data$/.test(name)).length, 2);
  const restored = await restore(a.host, target, scratch);
  const [vda, vdb] = ['vda', 'vdb'].map((disk) => join(restored, `${VM}-${disk}.qcow2`)) as [string, string];
  assert.deepEqual(problems(await guest.checkOffline({ vda, vdb })), [], readdirSync(restored).join(' '));
  await assertByteEqual(a, b, scratch);
  assert.equal((await eventsOf(a)).filter((event) => event.startsWith('resync')).length, 0);
  await assertRecordsGood(guest);
  for (const name of theirs.split('\n').concat('virtnbdbackup.2')) await a.host.virsh('checkpoint-delete', VM, name);
});

stage('a yield outlives a restart, and ends by itself', async () => {
  const { a } = hosts;
  await understudy(a, 'yield', VM, '--for', '15s');
  await a.stop();
  await a.start();
  const { yieldUntil } = await look(a);
  assert.ok(yieldUntil !== null);
  const { protectedUntil } = await protectedNow(a);
  assert.ok(protectedUntil! >= yieldUntil, 'it was read meanwhile');
  assert.equal((await look(a)).yieldUntil, null);
});

stage('`understudy detach` of a running VM: resize, snapshots and undefine work as if we had never been', async () => {
  const { a, b, guest } = hosts;
  assert.notEqual((await pointsOf(b)).length, 0);
  await assert.rejects(understudy(a, 'detach', VM), /--yes/);
  assert.match(await understudy(a, 'detach', VM, '--yes'), /nothing of understudy is left in it/);
  assert.equal(await understudy(a, 'replication', 'list').then((text) => text.includes(VM)), false);
  assert.equal(await a.host.virsh('checkpoint-list', VM, '--name'), '');
  await a.host.virsh('blockresize', VM, 'vda', '96M');
  await a.host.virsh('snapshot-create-as', VM, 'before');
  await a.host.virsh('snapshot-revert', VM, 'before');
  assert.equal(await guest.state(), 'running');
  await a.host.virsh('snapshot-delete', VM, 'before');
  assert.deepEqual(await bitmapsInImages(), []);
  await a.host.virsh('destroy', VM);
  assert.deepEqual(await bitmapsInImages(), []);
  await a.host.succeed(['qemu-img', 'resize', '-q', guest.disk('vda'), '112M']);
});

stage('of a VM that is off, and of bitmaps that no relationship knows', async () => {
  const { a, guest } = hosts;
  await a.host.succeed(['qemu-img', 'bitmap', '--add', guest.disk('vda'), 'understudy-01234567-1-9']);
  await a.host.succeed(['qemu-img', 'bitmap', '--add', guest.disk('vda'), 'somebody-else']);
  assert.match(await understudy(a, 'detach', '--all', '--yes'), /1 bitmap of no relationship removed/);
  assert.deepEqual(await bitmapsInImages(), ['somebody-else']);
  await a.host.virsh('undefine', VM);
});
