/**
 * A disk that was added to a protected VM, and that a person wants to be replicated, too. It gets the bitmap that counts now, beginning
 * at this moment, and is copied in slices, it alone; the closing cycle, an increment since that bitmap for each disk, makes the first
 * recovery point that has it. Until then there is no new one: a point has all disks at one instant, or it doesn't exist.
 */
import { bytesText } from '../lib/bytes-text.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { after } from '../model/state.ts';
import type { LocalDisk } from '../store/store.ts';
import type { Replication } from './replication.ts';

/** Begins with the disks that are wanted, between two cycles. Each step may be done again. */
export async function joinDisks(replication: Replication): Promise<void> {
  const { wanted = [], copy, inFlight, bitmap, state, vmId } = replication.record;
  const isBetween = state === 'Replicating' && copy === null && inFlight === null;
  if (wanted.length === 0 || bitmap === null || !isBetween || replication.urgent) return;
  const { hypervisor } = replication.services;
  const attached = await attachedOnes(replication, wanted);
  if (attached.length > 0) {
    await hypervisor.startBitmap(vmId, [...replication.targets(), ...attached.map(({ target }) => target)], bitmap);
    crashPoint('joining:tracked');
  }
  const { record } = replication;
  // Its administrator may have left one out meanwhile.
  const disks = attached.filter(({ target }) => record.wanted?.includes(target) === true);
  // What has come meanwhile is left to the next cycle.
  const rest = (record.wanted ?? []).filter((target) => !wanted.includes(target));
  if (disks.length === 0) {
    replication.update({ wanted: rest });
    return;
  }
  const targets = disks.map(({ target }) => target);
  replication.update({
    wanted: rest,
    joining: targets,
    unprotected: (record.unprotected ?? []).filter((target) => !targets.includes(target)),
    disks: [...record.disks, ...disks],
    reshaped: true,
    copy: {
      mode: 'empty',
      since: null,
      disk: record.disks.length,
      offset: 0,
      blocksCompared: 0,
      blocksDifferent: 0,
    },
    ...after(record, 'fell-behind'),
  });
  crashPoint('joining:begun');
  const names = disks.map(({ target, size }) => `${target} (${bytesText(size)})`).join(', ');
  const text = `disk ${names} of ${record.vmName} is copied to ${record.peer}: until that is done there are no new recovery points`;
  replication.services.event('warning', 'disk-joins', text);
}

export function wantsDisks({ record }: Replication): boolean {
  return (record.wanted ?? []).length > 0;
}

/** Those of them that the VM has, and that can be tracked. What became of the others is said. */
async function attachedOnes(replication: Replication, wanted: readonly string[]): Promise<LocalDisk[]> {
  const { vmId, vmName, disks, replicaPlaintext = false } = replication.record;
  const vm = await replication.services.hypervisor.getVm(vmId);
  return wanted.flatMap((wish) => {
    if (disks.some(({ target }) => target === wish)) return [];
    const found = vm.disks.find(({ target }) => target === wish);
    const isSecret = found?.encrypted === true && !replicaPlaintext;
    const flaw = isSecret ? 'it is encrypted, and its replica would be plain text' : found?.unsupported;
    const why = found === undefined ? 'the VM has no such disk any more' : flaw;
    if (found !== undefined && why === undefined && found.size > 0) {
      if (found.encrypted === true) {
        const said = `disk ${wish} of ${vmName} is encrypted: its replica is plain text, as allowed`;
        replication.services.event('warning', 'replica-plaintext', said);
      }
      return [{ target: wish, size: found.size, path: found.path }];
    }
    const text = `disk ${wish} of ${vmName} was to be replicated, and is not: ${why ?? 'its size is not known'}`;
    replication.services.event('warning', 'disk-not-joined', text);
    return [];
  });
}
