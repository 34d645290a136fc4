/**
 * `lease-guard DIRECTORY [LIBVIRT-SOCKET]`: stops VMs whose lease is over and whose daemon hasn't stopped them. It needs nothing but the
 * notes of the leases: no store, no network, and when libvirt doesn't answer, no libvirt. Ends by itself when there are no notes any more.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bootNow } from '../lib/boot-clock.ts';
import { sleep } from '../lib/clock.ts';
import { createLog } from '../lib/log.ts';
import { listLeases, markStopped, readLease, type LeaseNote } from '../failover/lease-note.ts';
import { LibvirtHypervisor } from '../hypervisor/libvirt/libvirt.ts';
import { endQemu } from '../hypervisor/libvirt/qemu-process.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { GUARD_AFTER_MS, GUARD_PAUSE_MS, heldUntil } from '../model/lease.ts';
import { GUARD_PID, guardLives } from './lease-guard.ts';

const LOOK_EVERY_MS = 250;
/** Without any lease for so long it isn't needed any more. */
const IDLE_MS = 10_000;

const [directory = '', libvirtSocket] = process.argv.slice(2);
const log = createLog({ level: 'info', component: 'lease-guard' });

async function guard(): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if (await guardLives(directory)) return;
  await writeFile(join(directory, GUARD_PID), String(process.pid));
  for (let idleSince = bootNow(); bootNow() - idleSince < IDLE_MS;) {
    const noted = await listLeases(directory);
    if (noted.length > 0) idleSince = bootNow();
    await Promise.all(noted.map(look));
    await sleep(LOOK_EVERY_MS);
    // Two that began at once: the one that wrote last stays.
    if ((await readFile(join(directory, GUARD_PID), 'utf8')) !== String(process.pid)) return;
  }
}

async function look(id: string): Promise<void> {
  const note = await readLease(directory, id);
  if (note === undefined || bootNow() < heldUntil(note, note.seconds) + GUARD_AFTER_MS) return;
  const how = await stop(note);
  if (how === 'off') return;
  log.error({ relationship: id, vm: note.vmName, how }, 'the lease is over and its daemon has not stopped the VM');
  await markStopped(directory, id);
}

/** Paused keeps what the guest holds in memory; where libvirt doesn't do that in time, QEMU is ended. */
async function stop(note: LeaseNote): Promise<'off' | 'paused' | 'ended'> {
  const socket = libvirtSocket === undefined ? {} : { socketPath: libvirtSocket };
  const hypervisor = new LibvirtHypervisor({ pointDirectory: directory, log, ...socket });
  try {
    const paused = await Promise.race([pause(hypervisor, note.vmId), sleep(GUARD_PAUSE_MS).then(tooLong)]);
    return paused ? 'paused' : 'off';
  } catch (error) {
    log.error({ vm: note.vmName, err: asFailure(error) }, 'the VM could not be paused: it is ended');
    return (await endQemu(note.vmName, note.vmId)) ? 'ended' : 'off';
  } finally {
    hypervisor.close().catch((error: unknown) => log.debug({ err: asFailure(error) }, 'libvirt does not take leave'));
  }
}

async function pause(hypervisor: LibvirtHypervisor, vmId: string): Promise<boolean> {
  const { state } = await hypervisor.vmStatus(vmId);
  if (state !== 'running') return false;
  await hypervisor.suspend(vmId);
  return true;
}

function tooLong(): never {
  throw new Failure('timeout', `libvirt did not pause the VM within ${GUARD_PAUSE_MS} ms`);
}

await guard();
// A call that hangs must not keep it.
process.exit(0);
