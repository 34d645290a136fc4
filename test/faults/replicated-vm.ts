/** One replicated VM on two hosts, as its tests see it: what both sides hold, compared with what the guest wrote. */
import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { on, once } from 'node:events';
import { join } from 'node:path';
import type { FailoverServices } from '../../src/failover/services.ts';
import { until } from '../../src/lib/clock.ts';
import type { EventRecord, RelationshipRecord } from '../../src/store/store.ts';
import { difference, readDisks } from './replica-primary.ts';
import { remoteEndpoint } from './remote-endpoint.ts';
import { serveHypervisors } from './remote-hypervisor.ts';
import { beginTask, type Task } from './two-hosts-process.ts';
import { other, TwoHosts, type Host, type HostName } from './two-hosts.ts';
import { VM_NAME, type VmHosts } from './vm-hosts.ts';

const PATIENCE_MS = 60_000;

export class ReplicatedVm {
  hosts: TwoHosts;
  readonly vms: VmHosts;
  /** Of the relationship. */
  id: string;
  /** What the guest's disks held at a recovery point, by its sequence. */
  readonly states = new Map<number, readonly Buffer[]>();

  constructor(hosts: TwoHosts, vms: VmHosts, id: string) {
    this.hosts = hosts;
    this.vms = vms;
    this.id = id;
  }

  /** Enables replication of the VM from host a to host b; the initial copy has begun. */
  static async enable(hosts: TwoHosts, vms: VmHosts, options: { history?: number } = {}): Promise<ReplicatedVm> {
    return new ReplicatedVm(hosts, vms, await enable(hosts, options.history ?? 24));
  }

  /** The same after it was removed. */
  async enableAnew(): Promise<void> {
    this.id = await enable(this.hosts, 24);
    this.states.clear();
  }

  host(name: HostName): Host {
    return this.hosts.host(name);
  }

  record(name: HostName): RelationshipRecord {
    const record = this.host(name).services.store.relationship(this.id);
    assert.ok(record !== undefined, `host ${name} knows the relationship`);
    return record;
  }

  events(name: HostName): EventRecord[] {
    return this.host(name).services.store.events({ relationship: this.id, limit: 1000 }).toReversed();
  }

  count(name: HostName, kind: string): number {
    return this.events(name).filter((event) => event.kind === kind).length;
  }

  /** Waits for something; what doesn't come is told with what both hosts remember. */
  async wait(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = PATIENCE_MS): Promise<void> {
    await until(condition, {
      timeoutMs,
      everyMs: 20,
      onTimeout: () => new Error(`${what}: not in ${timeoutMs} ms\n${this.#story('a')}\n${this.#story('b')}`),
    });
  }

  /** With the guest quiet: waits until the replica stands at what the disks hold now, and gives the latest point. */
  async replicated(primary: HostName): Promise<number> {
    const now = Date.now();
    await this.wait('replicated', () => {
      this.host(primary).services.primaries.loop(this.id).wake();
      const { protectedUntil, copy, inFlight, state } = this.record(primary);
      return state === 'Replicating' && copy === null && inFlight === null && (protectedUntil ?? 0) >= now;
    });
    const replica = this.host(other(primary)).services.replicas.get(this.id);
    await replica.drained();
    const { sequence } = replica.points()[0]!;
    this.states.set(sequence, this.vms.guest.snapshot());
    await this.checkPoint(other(primary), sequence);
    return sequence;
  }

  /** What a recovery point at a host reads as is what the guest's disks held then. */
  async checkPoint(where: HostName, sequence: number, wanted = this.states.get(sequence)): Promise<void> {
    assert.ok(wanted !== undefined, `what point ${sequence} holds is known`);
    assert.equal(difference(await this.readPoint(where, sequence), wanted), undefined, `point ${sequence}`);
  }

  async readPoint(where: HostName, sequence: number): Promise<Buffer[]> {
    const replica = this.host(where).services.replicas.get(this.id);
    const view = await replica.openView(sequence);
    try {
      return await readDisks(view.socketPath, replica.disksAt(sequence));
    } finally {
      await view.close();
    }
  }

  /** What the guest finds on its disks, running on a host, is what it wrote. */
  async checkGuest(where: HostName, wanted: readonly Buffer[] = this.vms.guest.bytes): Promise<void> {
    const socketPath = this.vms.machines[where].writableSocket(this.record(where).vmId);
    const { disks } = this.vms.guest;
    assert.equal(
      difference(await readDisks(socketPath, disks.slice(0, wanted.length)), wanted),
      undefined,
      `the guest's disks on ${where}`,
    );
  }

  /** Lets the primary believe that its logs get to the other host at this speed, bytes per second. Its loop doesn't run meanwhile. */
  async believeLink(primary: HostName, linkSpeed: number): Promise<void> {
    const { primaries, store } = this.host(primary).services;
    await primaries.stop(this.id);
    const record = this.record(primary);
    store.putRelationship({ ...record, statistics: { ...record.statistics, linkSpeed } });
  }

  /** Every point of which it is known what it held. */
  async checkAllPoints(where: HostName): Promise<number> {
    const points = this.host(where).services.replicas.get(this.id).points();
    const known = points.filter(({ sequence }) => this.states.has(sequence));
    for (const { sequence } of known) await this.checkPoint(where, sequence);
    return known.length;
  }

  /** Between two cycles the VM's disks have one bitmap of ours: the one that is remembered. */
  async checkBitmaps(primary: HostName): Promise<void> {
    const { primaries } = this.host(primary).services;
    await primaries.stop(this.id);
    const bitmaps = await this.vms.hypervisors[primary].listBitmaps(this.record(primary).vmId);
    assert.deepEqual(bitmaps, [{ name: this.record(primary).bitmap, usable: true }]);
    primaries.start(this.id);
  }

  /** Waits for the end of the plan that holds the relationship on a host. */
  async settled(where: HostName): Promise<void> {
    const { journal } = (this.host(where).services satisfies FailoverServices & { actions: unknown }).actions;
    await this.wait(`no plan on ${where}`, () => journal.holder(this.id) === undefined);
  }

  /**
   * Ends both daemons and lets a process of its own carry a task out until it dies at a crash point; then both start
   * again. Fails if that point is never reached. A link that is cut stays so.
   */
  async crashAt(crash: string, task: Task): Promise<void> {
    const { cut } = this.hosts;
    const { outboxLimit } = this.hosts.a;
    await this.hosts.close();
    const args = [this.vms.directory, this.id, JSON.stringify(task), cut ? 'cut' : ''];
    const child = this.#fork('two-hosts-process.ts', args, crash, outboxLimit);
    const settled = serveHypervisors(child, this.vms.hypervisors);
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    await settled();
    this.hosts = await TwoHosts.open(this.vms.directory, this.vms.hypervisors);
    this.hosts.cut = cut;
    for (const host of [this.hosts.a, this.hosts.b]) host.outboxLimit = outboxLimit;
    await this.hosts.begin();
    assert.equal(signal, 'SIGKILL', `${crash} was never reached: ${code}`);
  }

  /**
   * The same with the daemon of one host in the process that dies, while the other one goes on. The task may be of either.
   */
  async crashAloneAt(crash: string, dies: HostName, task: Exclude<Task, { kind: 'replicate' }>): Promise<void> {
    const { hosts } = this;
    const survivor = hosts.host(other(dies));
    const link = survivor.link.cut ? 'cut' : '';
    const args = [this.vms.directory, dies, this.id, link, ...(task.on === dies ? [JSON.stringify(task)] : [])];
    await hosts.stop(dies);
    const child = this.#fork('one-host-process.ts', args, crash, survivor.outboxLimit);
    const exit = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    const settled = serveHypervisors(child, this.vms.hypervisors);
    hosts.lend(
      dies,
      remoteEndpoint(child, () => survivor.endpoint),
    );
    await Promise.race([begun(child), exit]);
    const patience = setTimeout(() => child.disconnect(), PATIENCE_MS);
    if (task.on !== dies) await beginTask(survivor, this.id, task);
    const [code, signal] = await exit;
    clearTimeout(patience);
    await settled();
    await hosts.takeBack(dies);
    assert.equal(signal, 'SIGKILL', `${crash} was never reached: ${code}`);
  }

  #fork(program: string, args: string[], crash: string, outboxLimit: number): ChildProcess {
    return fork(join(import.meta.dirname, program), args, {
      // Half of the time the storage daemons of the replicas die with it.
      env: {
        ...process.env,
        UNDERSTUDY_CRASH: crash,
        DIES: this.vms.guest.below(2) === 0 ? 'daemon' : 'both',
        OUTBOX_LIMIT: String(outboxLimit),
      },
      execArgv: [],
      serialization: 'advanced',
    });
  }

  #story(name: HostName): string {
    const { services } = this.host(name);
    const record = services.store.relationship(this.id);
    const plans = services.actions.journal.plans().map(({ kind, state, steps, failure, obstacle }) => {
      return { kind, state, at: steps.find(({ done }) => !done)?.name, failure, obstacle };
    });
    const events = record === undefined ? [] : this.events(name).map(({ kind, message }) => `${kind}: ${message}`);
    const replica = services.replicas.find(this.id);
    return `host ${name}: ${JSON.stringify({ record: { ...record, definition: undefined }, replica: replica?.status(), frozen: replica?.frozen, plans, events }, null, 1)}`;
  }
}

/** No lease, and no limit on reading. */
const UNLIMITED = {
  leaseSeconds: 0,
  readBytesPerSecond: 0,
  readIops: 0,
  autoResync: 'always',
  useSeed: false,
  replicaPlaintext: false,
};

async function enable(hosts: TwoHosts, history: number): Promise<string> {
  const request = { vm: VM_NAME, peer: 'b', intervalSeconds: 1, history, thin: [], excludeDisks: [], ...UNLIMITED };
  return (await hosts.a.ask('replicationEnable', request)).id;
}

/** Resolves when a host that is a process of its own has begun. */
async function begun(child: ChildProcess): Promise<void> {
  for await (const [message] of on(child, 'message') as AsyncIterable<[{ of?: string }]>)
    if (message.of === 'ready') return;
}
