/**
 * A revert to an internal snapshot (`virsh snapshot-revert`): QEMU refuses it while the image has a change bitmap, and libvirt has ended
 * the VM by then. What is in its way is ours, so it goes at once, and nothing of ours comes back before the VM runs again: then the person
 * can revert, or start it, and both sides are compared.
 */
import { Failure } from '../model/failure.ts';
import type { Replication } from './replication.ts';

/** Failure `job-conflict` while a VM that a failed revert has left off waits for its administrator. */
export async function yieldToRevert(replication: Replication): Promise<void> {
  const { hypervisor, event } = replication.services;
  const { vmId, vmName } = replication.record;
  if ((await hypervisor.vmStatus(vmId)).failedRevert !== true) return;
  await hypervisor.closePoint(vmId);
  const ours = (await hypervisor.listBitmaps(vmId)).filter(({ name }) => name.startsWith(replication.bitmapPrefix));
  for (const { name } of ours) await hypervisor.dropBitmap(vmId, name);
  const hint = `Revert again (virsh snapshot-revert), or start ${vmName}: both sides are compared then, and recovery points stay.`;
  const text = `${vmName} was left off by a revert to a snapshot that failed; the change bitmap that was in its way is removed`;
  if (ours.length > 0) event('warning', 'revert-cleared', `${text}. ${hint}`);
  throw new Failure('job-conflict', text, { hint });
}
