/**
 * The two ways in which the VM of a relationship is defined on a host.
 *
 * *Runnable*: with its disks. *Locked*: with disk paths that don't exist and whose name is the message, so that whoever
 * starts it by hand, whether our daemon runs or not, is told by libvirt itself what to do instead. Nothing but the paths
 * differs, and the record keeps the runnable definition.
 */
import { join } from 'node:path';
import type { RelationshipRecord } from '../store/store.ts';
import type { FailoverServices } from './services.ts';

/** Last part of the lock directory's name: libvirt's error shows it. */
export const LOCK_NAME = 'this-VM-is-a-replica--start-it-with-understudy-failover';

/** Defines the VM to run on `paths` (by target; the relationship's own disks by default). */
export async function defineRunnable(
  services: FailoverServices,
  record: RelationshipRecord,
  paths: ReadonlyMap<string, string> = new Map(record.disks.map(({ target, path }) => [target, path])),
): Promise<void> {
  await services.hypervisor.define({
    definition: record.definition,
    id: record.vmId,
    name: record.vmName,
    disks: new Map([...paths].map(([target, path]) => [target, { path, format: 'qcow2' as const }])),
    otherDisks: 'keep',
    network: 'as-defined',
  });
}

/**
 * Defines the VM so that it can't be started by accident.
 * @param otherDisks `remove` on a Replica server that sees the definition for the first time: disks that aren't replicated aren't there.
 */
export async function defineLocked(
  services: Pick<FailoverServices, 'hypervisor' | 'lockDirectory'>,
  record: Pick<RelationshipRecord, 'id' | 'vmId' | 'vmName' | 'definition' | 'disks'>,
  otherDisks: 'keep' | 'remove' = 'keep',
): Promise<void> {
  const directory = join(services.lockDirectory, record.id);
  await services.hypervisor.define({
    definition: record.definition,
    id: record.vmId,
    name: record.vmName,
    disks: new Map(
      record.disks.map(({ target }) => [
        target,
        { path: join(directory, `${target}.qcow2`), format: 'qcow2' as const },
      ]),
    ),
    otherDisks,
    network: 'as-defined',
  });
}
