/** A running test failover doesn't feel that the daemon under its disks is killed or restarted: its guest only waits. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before } from 'node:test';
import { LabGuest } from '../../lab/guest/guest.ts';
import { until } from '../../src/lib/clock.ts';
import { stages } from './stages.ts';
import { TwoHosts, VM, protectedNow } from './two-hosts.ts';

const TEST_VM = `${VM} - Test`;
const READ_TIMEOUT_MS = 60_000;
/** In the guest: reads a file that nobody has read since boot, and keeps what came of it. */
const READ =
  'echo 3 >/proc/sys/vm/drop_caches; rm -f /run/code; sha256sum /vda/filler >/run/sum 2>&1; echo $? >/run/code';
/** Whether that waits for its disk. */
const IS_WAITING =
  'for f in /proc/[0-9]*/stat; do read -r line <$f; case "$line" in *"(sha256sum) D"*) exit 0;; esac; done; exit 1';

const stage = stages();
let hosts: TwoHosts;
let copy: LabGuest;
let filler: string;

before(async () => {
  hosts = await TwoHosts.create('test-failover.test', { guest: { vda: { sizeMiB: 64, fillerMiB: 8 } } });
  copy = new LabGuest(hosts.b.host, TEST_VM);
});
after(() => hosts?.[Symbol.asyncDispose]());

const inGuest = (guest: LabGuest, script: string) => guest.agent.exec(['/bin/sh', '-c', script]);

/** Whether an event says that the test failover could not go on. */
async function wasCut(): Promise<boolean> {
  const events = await hosts.b.client.call('eventList', { ref: VM, limit: 1000 });
  return events.some(({ kind }) => kind === 'test-failover-cut');
}

async function beginReading(): Promise<void> {
  await inGuest(copy, `(${READ}) </dev/null >/dev/null 2>&1 &`);
}

async function assertRead(): Promise<void> {
  await until(async () => (await inGuest(copy, 'test -s /run/code')).code === 0, {
    timeoutMs: READ_TIMEOUT_MS,
    onTimeout: () => new Error(`${TEST_VM} still waits for its disk`),
  });
  const { stdout } = await inGuest(copy, 'cat /run/code /run/sum; dmesg | grep "I/O error"');
  assert.equal(stdout, `0\n${filler}`);
}

stage('a test failover begins', async () => {
  const { b, guest } = hosts;
  await hosts.replicate();
  ({ stdout: filler } = await inGuest(guest, 'sha256sum /vda/filler'));
  assert.match(filler, /^[0-9a-f]{64} /);
  await b.act('testFailoverStart', { ref: VM });
  await copy.agent.wait();
});

stage('the daemon is killed while the guest reads: the guest waits, and reads on after the restart', async () => {
  const { a, b } = hosts;
  await b.kill();
  await beginReading();
  await until(async () => (await inGuest(copy, IS_WAITING)).code === 0, {
    timeoutMs: READ_TIMEOUT_MS,
    onTimeout: () => new Error('nothing waits: the guest does not read what the daemon serves'),
  });
  await b.start();
  await assertRead();
  assert.deepEqual(
    (await b.show(VM)).testVms.map(({ name }) => name),
    [TEST_VM],
  );
  assert.ok(!(await wasCut()));
  await protectedNow(a);
});

stage('a restart in an orderly way is no different, and the test ends as ever', async () => {
  const { b } = hosts;
  await b.stop();
  await b.start();
  await beginReading();
  await assertRead();
  await b.act('testFailoverStop', { ref: VM });
  assert.deepEqual(readdirSync(b.host.path('/run/understudy/tests')), []);
  assert.equal(await b.host.virsh('list', '--name'), '');
});

stage('a test VM that ended while the daemon was away is cleared away', async () => {
  const { b } = hosts;
  await b.act('testFailoverStart', { ref: VM });
  await b.kill();
  await b.host.virsh('destroy', TEST_VM);
  await b.start();
  await b.waitFor(VM, 'without a test VM', ({ testVms }) => testVms.length === 0);
  assert.ok(await wasCut(), 'a person is told');
  assert.ok(!(await b.host.virsh('list', '--all', '--name')).includes(TEST_VM));
  assert.deepEqual(readdirSync(b.host.path('/run/understudy/tests')), []);
});
