/** `fence: lease` on real hosts: without contact the guest stops before the other side may start, whether its daemon lives or not. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before } from 'node:test';
import { promisify } from 'node:util';
import type { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { sleep, until } from '../../src/lib/clock.ts';
import { stages } from '../system/stages.ts';
import { TwoHosts, VM, eventsOf, look } from '../system/two-hosts.ts';

/** The shortest that there is. */
const LEASE_SECONDS = 10;
/** From the end of a lease until the guest stands still, on a loaded machine. */
const STOPS_WITHIN_MS = 5000;
const LOOK_EVERY_MS = 100;

const stage = stages();
let hosts: TwoHosts;

before(async () => {
  hosts = await TwoHosts.create('lease.test');
});
after(() => hosts?.[Symbol.asyncDispose]());

/** What a person types. */
async function typed(daemon: HostDaemon, ...words: string[]): Promise<string> {
  const [understudy = '', ...options] = daemon.cliCommand.split(' ');
  const { stdout } = await promisify(execFile)(understudy, [...options, ...words]);
  return stdout;
}

const stateOnB = () => hosts.guestOnB.state().catch(() => 'off');

/** Looks at both guests until `done`: when the one stood still, when the other ran. */
async function watchBoth(done: () => boolean) {
  let [stopped, started] = [Infinity, Infinity];
  while (!done()) {
    const [onA, onB] = [await hosts.guest.state(), await stateOnB()];
    assert.ok(onA !== 'running' || onB !== 'running', 'two copies run');
    if (onA !== 'running') stopped = Math.min(stopped, performance.now());
    if (onB === 'running') started = Math.min(started, performance.now());
    await sleep(LOOK_EVERY_MS);
  }
  return { stopped, started };
}

stage('an administrator binds a running VM to a lease, and sees it on both sides', async () => {
  const { a, b } = hosts;
  await hosts.replicate();
  assert.match(await typed(a, 'replication', 'set', VM, '--lease', `${LEASE_SECONDS}s`), /lease of 10.0 s/);
  assert.match(await typed(a, 'replication', 'show', VM), /^fence: +lease of 10.0 s: without an answer of b/m);
  assert.match(await typed(b, 'replication', 'show', VM), /^fence: +lease of 10.0 s: a failover waits/m);
  assert.equal(await hosts.guest.state(), 'running');
});

stage('a failover after a cut starts the VM only when the guest of the primary stands still', async () => {
  const { a, b } = hosts;
  const cut = performance.now();
  await a.host.cut();
  let failedOver = false;
  const failover = typed(b, 'failover', 'unplanned', VM, '--yes').finally(() => (failedOver = true));
  const [{ stopped, started }] = await Promise.all([watchBoth(() => failedOver), failover]);
  assert.equal(await stateOnB(), 'running');
  console.log(`stopped ${Math.round(stopped - cut)} ms, failed over ${Math.round(started - cut)} ms after the cut`);
  assert.ok(stopped - cut < 1000 * LEASE_SECONDS + STOPS_WITHIN_MS);
  assert.ok(started > stopped);
  const view = await look(a);
  assert.deepEqual([view.stoppedByLease, view.vmState, view.health], [true, 'paused', 'critical']);
  assert.match((await eventsOf(b)).join('\n'), /^lease-waited-for: web may run on a for \d+ s more/m);

  await a.host.heal();
  await a.waitFor(VM, 'stepped down', ({ state }) => state === 'SteppedDown');
  await b.act('cancelFailover', { ref: VM });
  await a.waitFor(VM, 'running again', ({ state, vmState }) => state === 'Replicating' && vmState === 'running');
});

stage('a guest whose daemon is dead is stopped by the guard, and goes on with the next daemon', async () => {
  const { a, guest } = hosts;
  await a.kill();
  const killed = performance.now();
  await until(async () => (await guest.state()) === 'paused', {
    timeoutMs: 1000 * LEASE_SECONDS + STOPS_WITHIN_MS,
    everyMs: LOOK_EVERY_MS,
    onTimeout: () => new Error('nobody stops the guest'),
  });
  console.log(`stopped ${Math.round(performance.now() - killed)} ms after its daemon died`);
  await a.start();
  await a.waitFor(VM, 'running again', ({ vmState, stoppedByLease }) => vmState === 'running' && !stoppedByLease);
  assert.match((await eventsOf(a)).join('\n'), /^lease-over: .* the guard stopped it[^]*^lease-regained: /m);
});
