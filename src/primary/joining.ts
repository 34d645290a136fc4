/**
 * A disk that was added to a protected VM, and that a person wants to be replicated, too. It gets the bitmap that counts now, beginning
 * at this moment, and is copied in slices, it alone; the closing cycle, an increment since that bitmap for each disk, makes the first
 * recovery point that has it. Until then there is no new one: a point has all disks at one instant, or it doesn't exist.
 *
 * One whose name the replica knows from a disk that is gone takes that one's place. What is there of the old one is compared with it.
 */
import { bytesText } from '../lib/bytes-text.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { Failure } from '../model/failure.ts';
import { presentDisks } from '../model/shape.ts';
import { after } from '../model/state.ts';
import { diskEncrypted, type Vm } from '../hypervisor/hypervisor.ts';
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
  const found = attached.filter(({ target }) => record.wanted?.includes(target) === true);
  const back = found.find(({ target }) => record.disks.some((disk) => disk.target === target));
  const disks = back === undefined ? found : [back];
  // What has come meanwhile, and what is copied in another place, is left to the next cycle.
  const later = found.filter((disk) => !disks.includes(disk)).map(({ target }) => target);
  const rest = (record.wanted ?? []).filter((target) => !wanted.includes(target) || later.includes(target));
  if (disks.length === 0) {
    replication.update({ wanted: rest });
    return;
  }
  const targets = disks.map(({ target }) => target);
  replication.update({
    wanted: rest,
    joining: targets,
    unprotected: (record.unprotected ?? []).filter((target) => !targets.includes(target)),
    disks:
      back === undefined
        ? [...record.disks, ...disks]
        : record.disks.map((disk) => (disk.target === back.target ? back : disk)),
    reshaped: true,
    copy: {
      ...(back === undefined
        ? { mode: 'empty', disk: record.disks.length }
        : { mode: 'compare', disk: record.disks.findIndex(({ target }) => target === back.target), alone: true }),
      since: null,
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

/** Whether disks are to come, or to go. */
export function wantsDisks({ record }: Replication): boolean {
  return (record.wanted ?? []).length + (record.leaving ?? []).length > 0;
}

/** Why a disk of the VM can't be replicated, too; undefined where it can. */
export function whyNotJoin(vm: Vm, target: string, replicaPlaintext: boolean): Failure | undefined {
  const found = vm.disks.find((disk) => disk.target === target);
  if (found === undefined) return new Failure('not-found', `${vm.name} has no disk ${target}`);
  if (found.encrypted === true && !replicaPlaintext) return diskEncrypted(vm.name, [target]);
  const why = found.unsupported ?? (found.size > 0 ? undefined : 'its size is not known');
  if (why === undefined) return undefined;
  return new Failure('disk-unsupported', `${vm.name}, disk ${target}: ${why}`, {
    hint: `Convert it (\`qemu-img convert -O qcow2\`), or leave it out: \`understudy replication set ${vm.name} --exclude-disk ${target}\`.`,
  });
}

/** Those of them that the VM has, and that can be tracked. What became of the others is said. */
async function attachedOnes(replication: Replication, wanted: readonly string[]): Promise<LocalDisk[]> {
  const { vmId, vmName, disks, replicaPlaintext = false } = replication.record;
  const vm = await replication.services.hypervisor.getVm(vmId);
  return wanted.flatMap((wish) => {
    if (presentDisks(disks).some(({ target }) => target === wish)) return [];
    const failure = whyNotJoin(vm, wish, replicaPlaintext);
    if (failure !== undefined) {
      const text = `disk ${wish} of ${vmName} was to be replicated, and is not: ${failure.message}`;
      replication.services.event('warning', 'disk-not-joined', text);
      return [];
    }
    const { size, path, encrypted } = vm.disks.find(({ target }) => target === wish)!;
    if (encrypted === true) {
      const said = `disk ${wish} of ${vmName} is encrypted: its replica is plain text, as allowed`;
      replication.services.event('warning', 'replica-plaintext', said);
    }
    return [{ target: wish, size, path }];
  });
}
