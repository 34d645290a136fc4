/** A replica is kept in plain images: one that is encrypted can't become a replica's, neither as it is nor by making it plain. */
import type { Vm } from '../hypervisor/hypervisor.ts';
import { Failure } from '../model/failure.ts';
import { presentDisks } from '../model/shape.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { FailoverServices } from './services.ts';

/** Those of the replicated disks that the VM has in encrypted images. */
export function encryptedTargets(vm: Pick<Vm, 'disks'>, replicated: readonly ReplicatedDisk[]): string[] {
  const encrypted = vm.disks.filter((disk) => disk.encrypted === true).map(({ target }) => target);
  return encrypted.filter((target) => presentDisks(replicated).some((disk) => disk.target === target));
}

/** Failure `disk-encrypted` of a host whose disks are to become a replica's. */
export function noReplicaIn(
  vmName: string,
  targets: readonly string[],
  hint = 'It stays as it is. docs/encryption.md says how the VM gets back onto an encrypted disk.',
): Failure {
  const text = `${vmName}, disk ${targets.join(', ')}: its image is encrypted, and a replica is kept in a plain one`;
  return new Failure('disk-encrypted', text, { hint });
}

/** Failure `disk-encrypted` when this host's disks of the VM couldn't become the replica's after a planned failover. */
export async function requirePlainDisks({ hypervisor }: FailoverServices, record: RelationshipRecord): Promise<void> {
  const encrypted = encryptedTargets(await hypervisor.getVm(record.vmId), record.disks);
  if (encrypted.length === 0) return;
  const instead =
    'Instead: shut the guest down, wait for the next recovery point (`understudy replication show`), and begin an unplanned failover on ' +
    `${record.peer}: nothing is lost by it. The way back is in docs/encryption.md.`;
  throw noReplicaIn(record.vmName, encrypted, instead);
}
