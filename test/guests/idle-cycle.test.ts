/** What a cycle costs in which nothing has changed: a real guest that runs and writes nothing. */
import assert from 'node:assert/strict';
import { chmodSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import type { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { backupXml, checkpointXml } from '../../src/hypervisor/libvirt/backup-xml.ts';
import { Domains } from '../../src/hypervisor/libvirt/domains.ts';
import { PointDirectory } from '../../src/hypervisor/libvirt/point-directory.ts';
import { Calls, JOB_NONE, type DomainRef } from '../../src/hypervisor/libvirt/rpc/calls.ts';
import { Session } from '../../src/hypervisor/libvirt/rpc/session.ts';
import { until } from '../../src/lib/clock.ts';
import { stages } from '../system/stages.ts';
import { INTERVAL_SECONDS, TwoHosts, VM, look, protectedNow } from '../system/two-hosts.ts';

const CYCLES = 20;
const MOST_TIMES_BARE = 3;
const MOST_BYTES = 4096;
/** So long that no cycle is due by itself while we measure. */
const NEVER_SECONDS = 3600;
const TARGETS = ['vda', 'vdb'];

const stage = stages();
let hosts: TwoHosts;

before(async () => {
  hosts = await TwoHosts.create('guest-idle-cycle.test');
  await hosts.replicate();
  const script = 'kill -STOP $(cat /run/records.pid) && sync';
  const { code, stderr } = await hosts.guest.agent.exec(['/bin/sh', '-c', script]);
  assert.equal(code, 0, stderr);
  await idleCycles(hosts.a, 2); // what was written before has been sent
});
after(() => hosts?.[Symbol.asyncDispose]());

/** Waits for so many further idle cycles in a row. */
async function idleCycles(daemon: HostDaemon, wanted: number): Promise<void> {
  let from = (await look(daemon)).statistics;
  await until(
    async () => {
      const now = (await look(daemon)).statistics;
      if (now.cycles !== from.cycles) from = now;
      return now.idleCycles - from.idleCycles >= wanted;
    },
    { timeoutMs: 60_000, onTimeout: () => new Error(`the guest is not quiet\n${daemon.lastWords()}`) },
  );
}

/** Files of the relationship on both hosts, where a log or a trace of one would be. */
function files(id: string): string[] {
  const below = (path: string) => readdirSync(path, { recursive: true, encoding: 'utf8' }).toSorted();
  const outbox = below(hosts.a.host.path('/var/lib/understudy/outbox'));
  return [...outbox, ...below(hosts.b.host.path(`/var/lib/understudy/replicas/${id}`))];
}

/** Bytes that have left a host by its cable. */
function sentByCable(daemon: HostDaemon): Promise<number> {
  return daemon.host.succeed(['cat', '/sys/class/net/eth0/statistics/tx_bytes']).then(Number);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

/** The least that libvirt can be asked to do for a point in time: begin a job, end it, drop the checkpoint. In ms. */
class Bare {
  readonly #session = new Session(hosts.a.host.libvirtSocket);
  readonly #calls = new Calls(this.#session);
  readonly #directory: PointDirectory;
  readonly #domain: DomainRef;
  readonly #sizes: ReadonlyMap<string, number>;

  private constructor(domain: DomainRef, sizes: ReadonlyMap<string, number>) {
    chmodSync(hosts.scratch, 0o711); // QEMU's user passes through
    this.#directory = new PointDirectory(join(hosts.scratch, 'bare'), 'bare');
    this.#domain = domain;
    this.#sizes = sizes;
  }

  static async begin(): Promise<Bare> {
    const session = new Session(hosts.a.host.libvirtSocket);
    const domain = await new Domains(new Calls(session)).find(VM);
    await session.close();
    const { disks } = await look(hosts.a);
    const bare = new Bare(domain, new Map(disks.map(({ target, size }) => [target, size])));
    await bare.#calls.createCheckpoint(domain, checkpointXml('bare-since', TARGETS), 0);
    return bare;
  }

  async once(): Promise<number> {
    const [uid, gid] = ['-u', '-g'].map(async (what) =>
      Number(await hosts.a.host.succeed(['id', what, 'libvirt-qemu'])),
    );
    const owner = { uid: await uid!, gid: await gid! };
    const { socketPath, scratch } = await this.#directory.prepare(this.#sizes, owner);
    const backup = backupXml({ socketPath, scratch, since: 'bare-since' });
    const begun = performance.now();
    await this.#calls.backupBegin(this.#domain, backup, checkpointXml('bare-next', TARGETS));
    await this.#calls.abortJob(this.#domain);
    await until(async () => (await this.#calls.jobType(this.#domain)) === JOB_NONE, {
      timeoutMs: 30_000,
      everyMs: 1,
      onTimeout: () => new Error('the bare job does not end'),
    });
    await this.#calls.deleteCheckpoint(this.#domain, 'bare-next', 0);
    return performance.now() - begun;
  }

  async end(): Promise<void> {
    await this.#calls.deleteCheckpoint(this.#domain, 'bare-since', 0);
    await this.#session.close();
  }
}

stage(`costs at most ${MOST_TIMES_BARE} times what libvirt itself needs for a job`, async () => {
  const { a } = hosts;
  const wake = () => a.client.call('replicationSet', { ref: VM, intervalSeconds: NEVER_SECONDS });
  await wake();
  await idleCycles(a, 1);
  const { id, statistics: before } = await look(a);
  const left = files(id);
  const bare = await Bare.begin();
  const [ours, bares]: [number[], number[]] = [[], []];
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    const idle = idleCycles(a, 1);
    await wake();
    await idle;
    ours.push((await look(a)).statistics.lastCycleMs);
    bares.push(await bare.once());
  }
  await bare.end();
  console.log(`idle cycle: median ${median(ours)} ms; bare begin, end, drop: ${median(bares).toFixed(1)} ms`);
  assert.ok(median(ours) <= MOST_TIMES_BARE * median(bares), `${median(ours)} ms, bare ${median(bares)} ms`);

  const { statistics } = await look(a);
  assert.equal(statistics.idleCycles - before.idleCycles, CYCLES);
  assert.equal(statistics.sentBytes, before.sentBytes);
  assert.deepEqual(files(id), left, 'nothing is left of it anywhere');
});

stage(`sends less than ${MOST_BYTES} bytes, and moves the time up to which the VM is protected`, async () => {
  const { a } = hosts;
  await a.client.call('replicationSet', { ref: VM, intervalSeconds: INTERVAL_SECONDS });
  await idleCycles(a, 1);
  const before = (await look(a)).statistics;
  const [bytes, cycles] = [await sentByCable(a), 2];
  const at = Date.now();
  await idleCycles(a, cycles);
  const sent = (await sentByCable(a)) - bytes;
  const idle = (await look(a)).statistics.idleCycles - before.idleCycles;
  console.log(`${Math.round(sent / idle)} bytes by cable for each of ${idle} idle cycles`);
  assert.ok(sent / idle < MOST_BYTES, `${sent} bytes for ${idle} idle cycles`);
  assert.ok((await protectedNow(a)).protectedUntil! > at);
});
