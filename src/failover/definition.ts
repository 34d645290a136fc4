/**
 * The two ways in which the VM of a relationship is defined on a host.
 *
 * *Runnable*: with its disks. *Locked*: with disk paths that don't exist and whose name is the message, so that whoever
 * starts it by hand, whether our daemon runs or not, is told by libvirt itself what to do instead. Nothing but the paths
 * differs, and the record keeps the runnable definition.
 */
import { join } from 'node:path';
import type { AdaptRequest, DefineRequest, Hypervisor } from '../hypervisor/hypervisor.ts';
import { Gate } from '../lib/gate.ts';
import { presentDisks } from '../model/shape.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { FailoverServices } from './services.ts';

/** Last part of the lock directory's name: libvirt's error shows it. */
export const LOCK_NAME = 'this-VM-is-a-replica--start-it-with-understudy-failover';

/** One change of a VM's definition at a time: that of a plan comes after one which was under way when the plan began. */
const gates = new WeakMap<Hypervisor, Map<string, Gate>>();

export async function inTurn<T>(
  { hypervisor }: Pick<FailoverServices, 'hypervisor'>,
  vmId: string,
  work: () => Promise<T>,
) {
  const ofHost = gates.get(hypervisor) ?? new Map<string, Gate>();
  gates.set(hypervisor, ofHost);
  const gate = ofHost.get(vmId) ?? new Gate();
  ofHost.set(vmId, gate);
  return await gate.run('defining', work);
}

/** Defines the VM to run on `paths` (by target; the relationship's own disks by default). */
export async function defineRunnable(
  services: FailoverServices,
  record: RelationshipRecord,
  paths: ReadonlyMap<string, string> = new Map(presentDisks(record.disks).map(({ target, path }) => [target, path])),
): Promise<void> {
  const request: DefineRequest = {
    definition: record.definition,
    id: record.vmId,
    name: record.vmName,
    disks: new Map([...paths].map(([target, path]) => [target, { path, format: 'qcow2' as const }])),
    otherDisks: 'keep',
    // One that was added since the recovery point: it has no image, and would keep the VM from starting.
    without: join(services.lockDirectory, record.id),
    network: 'as-defined',
  };
  await inTurn(services, record.vmId, () => services.hypervisor.define(request));
}

/**
 * Defines the VM so that it can't be started by accident.
 * @param otherDisks `remove` on a Replica server that sees the definition for the first time: disks that aren't replicated aren't there,
 * and those that are have plain images of its own.
 */
export async function defineLocked(
  services: Pick<FailoverServices, 'hypervisor' | 'lockDirectory'>,
  record: Pick<RelationshipRecord, 'id' | 'vmId' | 'vmName' | 'definition' | 'disks'>,
  otherDisks: 'keep' | 'remove' = 'keep',
): Promise<void> {
  await inTurn(services, record.vmId, () => lock(services, record, otherDisks));
}

/**
 * Locks the VM with a definition that its primary has sent, as far as that isn't this host's own business (`adaptDefinition`).
 * @param isFree asked in the same breath: whether nothing else decides about the VM now.
 * @param taken told, in the same breath, what the VM is defined by now.
 */
export async function defineFollowing(
  services: Pick<FailoverServices, 'hypervisor' | 'lockDirectory'>,
  record: RelationshipRecord,
  primary: Pick<AdaptRequest, 'definition' | 'previous' | 'networks'>,
  { isFree, taken }: { isFree: () => boolean; taken: (definition: string) => void },
): Promise<void> {
  const { hypervisor } = services;
  await inTurn(services, record.vmId, async () => {
    if (!isFree()) return;
    const targets = presentDisks(record.disks).map(({ target }) => target);
    const definition = await hypervisor.adaptDefinition({ ...primary, own: record.definition, targets });
    await lock(services, { ...record, definition }, 'keep');
    taken(await hypervisor.exportDefinition(record.vmId));
  });
}

async function lock(
  services: Pick<FailoverServices, 'hypervisor' | 'lockDirectory'>,
  record: Pick<RelationshipRecord, 'id' | 'vmId' | 'vmName' | 'definition' | 'disks'>,
  otherDisks: 'keep' | 'remove',
): Promise<void> {
  const directory = join(services.lockDirectory, record.id);
  await services.hypervisor.define({
    definition: record.definition,
    id: record.vmId,
    name: record.vmName,
    disks: new Map(
      presentDisks(record.disks).map(({ target }) => [
        target,
        {
          path: join(directory, `${target}.qcow2`),
          format: 'qcow2' as const,
          ...(otherDisks === 'remove' ? { plain: true as const } : {}),
        },
      ]),
    ),
    otherDisks,
    network: 'as-defined',
  });
}
