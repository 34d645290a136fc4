import { sleep, until } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';
import type { Replication } from './replication.ts';

const LOOK_EVERY_MS = 500;
/** A resume right after the job's end may fall back into the pause: it is tried until the guest runs, so long, ms. */
const RESCUE_MS = 30_000;

/**
 * A guest that a full scratch paused all the same goes on, once the job is gone: at the job's end, or, where that found no libvirtd, or a
 * daemon that died, by whoever closes what is left of it. Failure `no-space` when it doesn't.
 */
export async function rescueGuest(replication: Replication): Promise<void> {
  const { hypervisor, event } = replication.services;
  const { vmId, vmName, stoppedByLease } = replication.record;
  if (stoppedByLease === true || !(await hypervisor.vmStatus(vmId)).pausedByIoError) return;
  event(
    'critical',
    'guest-paused',
    `${vmName} was paused because a write of it failed during a backup job; it is resumed`,
  );
  await until(
    async () => {
      await hypervisor.resume(vmId).catch((error: unknown) => {
        replication.services.log.warn({ err: error, vm: vmName }, 'resuming the guest: trying again');
      });
      await sleep(LOOK_EVERY_MS);
      return (await hypervisor.vmStatus(vmId)).state === 'running';
    },
    {
      timeoutMs: RESCUE_MS,
      onTimeout: () => new Failure('no-space', `${vmName} stays paused: a write of it fails`),
    },
  );
}
