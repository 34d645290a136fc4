/**
 * `fence: lease` on both sides (model/lease.ts): the primary renews it at contact and stops its VM when it is over; the Replica
 * server notes when it granted one, and a failover waits until that is surely over.
 *
 * The note of a lease comes before the VM starts or goes on, and is gone only when the VM stands still: so whoever finds a
 * note, the guard too, knows that the VM may run, and until when.
 */
import { bootNow } from '../lib/boot-clock.ts';
import { sleep } from '../lib/clock.ts';
import { Gate } from '../lib/gate.ts';
import { Failure } from '../model/failure.ts';
import { heldUntil, isGranted, needsLease, surelyOver } from '../model/lease.ts';
import { runsHere } from '../model/role.ts';
import type { ReplicaStatus } from '../protocol/endpoint.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { clearStopped, readLease, removeLease, wasStopped, writeLease } from './lease-note.ts';
import { recordOf, update, type FailoverServices } from './services.ts';

/** What a daemon knows of leases. */
export interface Leases {
  /** Of the notes; emptied by a boot. */
  readonly directory: string;
  /** As a Replica server: until when, by the boot clock, what it granted may hold, by relationship. */
  readonly granted: Map<string, number>;
  /** Boot clock when this daemon began: what it granted in an earlier life was granted before. */
  readonly since: number;
  /** Stopping a VM and letting it go on, one at a time; by relationship. */
  readonly gates: Map<string, Gate>;
}

/** @param directory of the notes; emptied by a boot. */
export function newLeases(directory: string): Leases {
  return { directory, granted: new Map(), since: bootNow(), gates: new Map() };
}

/** Whether a VM of the relationship runs or stands still is changed here by one at a time. */
export async function alone<T>({ leases }: FailoverServices, id: string, work: () => Promise<T>): Promise<T> {
  const gate = leases.gates.get(id) ?? new Gate();
  leases.gates.set(id, gate);
  return await gate.run(`running ${id}`, work);
}

// --- the Replica server ---

/** Notes that the primary may count on `seconds` from now on at the latest. Before it is told. */
export function grantLease(services: FailoverServices, id: string, seconds: number): void {
  if (seconds === 0) return;
  // Durable: a daemon that starts anew waits as long, from its start on.
  if (recordOf(services, id).leaseSeconds !== seconds) update(services, id, { leaseSeconds: seconds });
  const { granted } = services.leases;
  granted.set(id, Math.max(granted.get(id) ?? 0, surelyOver(bootNow(), seconds)));
}

/** How long what this host has granted may still hold, ms; 0 when it is surely over, or there is no lease. */
export function leaseLeftMs(services: FailoverServices, record: RelationshipRecord): number {
  const { granted, since } = services.leases;
  const { id, leaseSeconds = 0 } = record;
  const until = granted.get(id) ?? (leaseSeconds === 0 ? 0 : surelyOver(since, leaseSeconds));
  return Math.max(0, until - bootNow());
}

/** Resolves when no lease that this host has granted can hold any more. To be asked when none is granted any more. */
export async function outlastLease(services: FailoverServices, id: string, signal: AbortSignal): Promise<void> {
  for (let told = false; ; told = true) {
    const record = recordOf(services, id);
    const left = leaseLeftMs(services, record);
    if (left === 0) return;
    if (!told) {
      const text = `${record.vmName} may run on ${record.peer} for ${Math.ceil(left / 1000)} s more by its lease: it starts here after that`;
      services.event(id, 'warning', 'lease-waited-for', text);
    }
    await sleep(left, signal);
  }
}

// --- the primary ---

/**
 * Asks the peer for a lease; whatever it answers is returned, and the lease noted if it is one. Failures: as `ReplicaEndpoint.status`;
 * `format-unknown` when the peer's version knows no leases.
 */
export async function renewLease(
  services: FailoverServices,
  record: RelationshipRecord,
  signal?: AbortSignal,
): Promise<{ granted: boolean; status: ReplicaStatus }> {
  const { id, vmId, vmName, peer, leaseSeconds: seconds = 0 } = record;
  const endpoint = services.peer(peer);
  if (endpoint.lease === undefined) throw new Failure('format-unknown', `${peer} grants no leases`);
  const sentAt = bootNow();
  const status = await endpoint.lease(id, seconds, signal);
  // As it is now: much may have happened meanwhile.
  const granted = isGranted(recordOf(services, id), status, seconds);
  if (granted) await writeLease(services.leases.directory, id, { vmId, vmName, sentAt, seconds });
  return { granted, status };
}

/** For so long an answer is waited for when a VM is to start, ms. */
const PATIENCE_MS = 3000;

/** Before a VM is started, or goes on, on its primary: whether it may. A silent peer grants nothing. */
export async function mayRun(services: FailoverServices, record: RelationshipRecord): Promise<boolean> {
  if ((record.leaseSeconds ?? 0) === 0) return true;
  return await renewLease(services, record, AbortSignal.timeout(PATIENCE_MS)).then(
    ({ granted }) => granted,
    () => false,
  );
}

/** Starts the VM of a host that took the role; or leaves that to the next lease, when it holds none any more. */
export async function startHeld(services: FailoverServices, record: RelationshipRecord): Promise<void> {
  const { leaseSeconds = 0 } = record;
  const note = leaseSeconds === 0 ? undefined : await readLease(services.leases.directory, record.id);
  const held = note !== undefined && bootNow() < heldUntil(note, leaseSeconds);
  if (leaseSeconds === 0 || held) await services.hypervisor.start(record.vmId);
  else rememberStopped(services, record, `${record.peer} has not become the Replica server in time`);
}

/**
 * The first lease of a host that takes the role in a planned failover. Nobody has to grant it: the old primary's VM is locked, and when
 * that host becomes the Replica server, later than now, it counts that as granting one.
 */
export async function beginLease(services: FailoverServices, record: RelationshipRecord): Promise<void> {
  const { id, vmId, vmName, leaseSeconds: seconds = 0 } = record;
  if (seconds === 0) return;
  await writeLease(services.leases.directory, id, { vmId, vmName, sentAt: bootNow(), seconds });
}

/** Whether a lease of this relationship is to be renewed at contact. */
export async function wantsLease(services: FailoverServices, record: RelationshipRecord): Promise<boolean> {
  if ((record.leaseSeconds ?? 0) === 0 || !runsHere(record)) return false;
  if (needsLease(record) || record.stoppedByLease === true) return true;
  return (await readLease(services.leases.directory, record.id)) !== undefined;
}

/** Stops the VM when its lease is over, and lets it go on when there is another one, or none is needed any more. Idempotent. */
export async function keepLease(services: FailoverServices, id: string): Promise<void> {
  const { directory } = services.leases;
  await alone(services, id, async () => {
    const record = services.store.relationship(id);
    if (record === undefined) return await removeLease(directory, id);
    const { leaseSeconds = 0 } = record;
    const note = await readLease(directory, id);
    if (await wasStopped(directory, id)) {
      rememberStopped(services, record, 'the guard stopped it, since the daemon did not');
      await clearStopped(directory, id);
    }
    // The guard goes by the note alone.
    if (note !== undefined && note.seconds > leaseSeconds) {
      await writeLease(directory, id, { ...note, seconds: leaseSeconds });
    }
    if (leaseSeconds === 0) {
      if (note !== undefined) await removeLease(directory, id);
      await letGo(services, id, 'no lease is needed any more');
    } else if (note !== undefined && bootNow() < heldUntil(note, leaseSeconds)) {
      await letGo(services, id, `${record.peer} answers again`);
    } else if (note !== undefined || needsLease(record)) {
      await halt(services, record);
      if (note !== undefined) await removeLease(directory, id);
    }
  });
}

/** Remembered first: a VM that was paused must not be forgotten. */
async function halt(services: FailoverServices, record: RelationshipRecord): Promise<void> {
  const vm = await services.hypervisor.vmStatus(record.vmId);
  if (vm.state !== 'running') return;
  rememberStopped(services, record, `${record.peer} has not answered for ${record.leaseSeconds} s`);
  await services.hypervisor.suspend(record.vmId);
}

function rememberStopped(services: FailoverServices, record: RelationshipRecord, why: string): void {
  if (recordOf(services, record.id).stoppedByLease === true) return;
  update(services, record.id, { stoppedByLease: true });
  const text = `${record.vmName} is stopped, its lease is over: ${why}. It goes on by itself with the next answer of ${record.peer}`;
  services.event(record.id, 'critical', 'lease-over', text);
}

/**
 * A VM that is to be off from now on isn't started by its next lease any more. Failure `vm-not-running` when its lease is over and it is
 * paused: a paused guest can't shut down.
 */
export async function forgetStopped(services: FailoverServices, id: string): Promise<void> {
  await alone(services, id, async () => {
    const { directory } = services.leases;
    const { vmId, vmName, peer, stoppedByLease } = recordOf(services, id);
    const stopped = stoppedByLease === true || (await wasStopped(directory, id));
    if (!stopped) return;
    if ((await services.hypervisor.vmStatus(vmId)).state !== 'off') {
      throw new Failure('vm-not-running', `${vmName} is stopped: its lease is over`, {
        hint: `It goes on by itself with the next answer of ${peer}.`,
      });
    }
    await clearStopped(directory, id);
    update(services, id, { stoppedByLease: false });
  });
}

/** What its lease has stopped goes on. A stepped-down VM does not: that is up to whoever gives the role back. */
async function letGo(services: FailoverServices, id: string, why: string): Promise<void> {
  const record = recordOf(services, id);
  if (record.stoppedByLease !== true || !runsHere(record)) return;
  const { state } = await services.hypervisor.vmStatus(record.vmId);
  if (state === 'paused') await services.hypervisor.resume(record.vmId);
  else if (state === 'off') await services.hypervisor.start(record.vmId);
  update(services, id, { stoppedByLease: false });
  services.event(id, 'info', 'lease-regained', `${record.vmName} goes on: ${why}`);
}
