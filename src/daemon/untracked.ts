/** Why a disk can't be replicated, and what a person can do about it. */
import type { VmDisk } from '../hypervisor/hypervisor.ts';
import { CATALOGUE, Failure } from '../model/failure.ts';
import { RAW_TRACKED_FROM, tracksRawDisks, type Versions } from '../model/versions.ts';

/** Failure `disk-unsupported` of a disk whose changes can't be tracked as it is. */
export function untracked(vmName: string, disk: VmDisk, versions: Versions): Failure {
  const text = `${vmName}, disk ${disk.target}: ${disk.unsupported ?? 'it can be tracked'}`;
  return new Failure('disk-unsupported', text, { hint: cureOf(vmName, disk, versions) });
}

/** In words, whole sentences. */
export function cureOf(vmName: string, { target, raw }: VmDisk, versions: Versions): string {
  if (raw !== true) return CATALOGUE['disk-unsupported'].hint;
  const leave = `or leave it out with --exclude-disk ${target}.`;
  if (tracksRawDisks(versions)) {
    return `\`understudy vm track ${vmName} --disk ${target}\` puts it under tracking as it is, while the VM is off; ${leave}`;
  }
  return (
    `A raw disk can be put under tracking as it is from libvirt ${RAW_TRACKED_FROM} on (here it is ${versions['libvirt']}). Make it qcow2: while the VM runs ` +
    `\`virsh blockcopy ${vmName} ${target} NEW --format qcow2 --transient-job --wait --pivot\`, while it is off \`qemu-img convert -O qcow2\`; ${leave}`
  );
}
