/**
 * Both daemons in a process of their own, to be killed at a crash point; the VMs are the parent's.
 * Usage: two-hosts-process.ts DIRECTORY RELATIONSHIP TASK [cut], where TASK is the JSON of a `Task`, and `cut` cuts the link.
 */
import './dying.ts';
import { until } from '../../src/lib/clock.ts';
import { remoteHypervisor } from './remote-hypervisor.ts';
import { other, TwoHosts, type Host, type HostName } from './two-hosts.ts';

/** What the process does: replicates until the replica stands at what the disks hold now, or carries a failover out. */
export type Task =
  | { readonly kind: 'replicate'; readonly primary: HostName }
  | { readonly kind: 'planned-failover' | 'cancel-failover' | 'complete-failover'; readonly on: HostName }
  | {
      readonly kind: 'reverse-replication' | 'test-failover-stop' | 'remove-replication';
      readonly on: HostName;
    }
  | {
      readonly kind: 'unplanned-failover' | 'test-failover-start';
      readonly on: HostName;
      readonly point?: number;
    };

const PATIENCE_MS = 60_000;

/** Carries a task out on hosts that are there; resolves when it is done. */
export async function carryOut(hosts: TwoHosts, ref: string, task: Task): Promise<void> {
  if (task.kind === 'replicate') return await replicate(hosts, ref, task.primary);
  await beginTask(hosts.host(task.on), ref, task);
  await ended(hosts, ref);
}

/** Asks a host for what a task says. */
export async function beginTask(host: Host, ref: string, task: Task): Promise<void> {
  const point = 'point' in task && task.point !== undefined ? { point: task.point } : {};
  switch (task.kind) {
    case 'replicate':
      throw new Error('nobody asks for that');
    case 'planned-failover':
      return void (await host.ask('plannedFailover', { ref, start: true, shutdownTimeoutSeconds: 10 }));
    case 'unplanned-failover':
      return void (await host.ask('unplannedFailover', { ref, force: false, ...point }));
    case 'cancel-failover':
      return void (await host.ask('cancelFailover', { ref }));
    case 'complete-failover':
      return void (await host.ask('completeFailover', { ref }));
    case 'reverse-replication':
      return void (await host.ask('reverseReplication', { ref }));
    case 'test-failover-start':
      return void (await host.ask('testFailoverStart', { ref, ...point }));
    case 'test-failover-stop':
      return void (await host.ask('testFailoverStop', { ref }));
    case 'remove-replication':
      return await host.ask('replicationRemove', { ref, keepDisks: false });
  }
}

/** Waits until no plan holds the relationship on either host. */
export async function ended(hosts: TwoHosts, relationship: string): Promise<void> {
  const journals = [hosts.a, hosts.b].map(({ services }) => services.actions.journal);
  await until(() => journals.every((journal) => journal.holder(relationship) === undefined), {
    timeoutMs: PATIENCE_MS,
    everyMs: 10,
    onTimeout: () => new Error(`still: ${JSON.stringify(journals.map((journal) => journal.holder(relationship)))}`),
  });
}

async function replicate(hosts: TwoHosts, id: string, primary: HostName): Promise<void> {
  const { store, primaries } = hosts.host(primary).services;
  const now = Date.now();
  const there = (): boolean => {
    primaries.loop(id).wake();
    const record = store.relationship(id)!;
    const { protectedUntil, copy, inFlight, state } = record;
    return state === 'Replicating' && copy === null && inFlight === null && (protectedUntil ?? 0) >= now;
  };
  await until(there, { timeoutMs: PATIENCE_MS, everyMs: 20, onTimeout: () => new Error('not replicated') });
  await hosts.host(other(primary)).services.replicas.get(id).drained();
}

if (import.meta.main) {
  const [directory = '', relationship = '', task = '', link = ''] = process.argv.slice(2);
  const hosts = await TwoHosts.open(directory, { a: remoteHypervisor('a'), b: remoteHypervisor('b') });
  hosts.cut = link === 'cut';
  await hosts.begin();
  await carryOut(hosts, relationship, JSON.parse(task) as Task);
  await hosts.close();
  process.disconnect();
}
