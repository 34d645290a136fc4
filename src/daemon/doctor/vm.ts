/** Whether a VM can be replicated, and what else has its hands on it. */
import type { Vm, VmInspection } from '../../hypervisor/hypervisor.ts';
import { CATALOGUE, type FailureJson } from '../../model/failure.ts';
import type { Versions } from '../../model/versions.ts';
import { cureOf } from '../untracked.ts';
import { critical, ok, warning, type Finding } from './finding.ts';

export interface VmFacts {
  readonly vm: Vm;
  /** Or why it couldn't be looked at. */
  readonly inspection: VmInspection | FailureJson;
  /** Targets of the disks that are replicated, and of those that a person left out; undefined: replication isn't enabled. */
  readonly replicated?: {
    readonly disks: readonly string[];
    readonly leftOut: readonly string[];
    /** Encrypted disks are replicated, too. */
    readonly plaintext?: boolean;
  };
  /** Of this host's hypervisor. */
  readonly versions?: Versions;
}

export function judgeVm(facts: VmFacts): Finding[] {
  return [
    ...judgeDisks(facts),
    ...judgeEncrypted(facts),
    ...judgeBesides(facts),
    ...judgeAgent(facts),
    ...judgeOthers(facts),
  ];
}

/** Of a VM that is to be replicated, and isn't there. */
export function judgeMissingVm(name: string, failure: FailureJson): Finding {
  return critical(`VM ${name}`, failure.message, failure.hint);
}

function judgeDisks({ vm, replicated, versions = {} }: VmFacts): Finding[] {
  const subject = `VM ${vm.name}: disks`;
  const findings: Finding[] = [];
  for (const disk of vm.disks) {
    const { target, unsupported } = disk;
    if (unsupported === undefined || replicated?.leftOut.includes(target) === true) continue;
    const found = `changes of ${target} can't be tracked: ${unsupported}`;
    findings.push(critical(subject, found, cureOf(vm.name, disk, versions)));
  }
  const lost = replicated?.disks.filter((target) => !vm.disks.some((disk) => disk.target === target)) ?? [];
  for (const target of lost) {
    findings.push(
      critical(subject, `${target} is replicated, and was taken out of the VM`, CATALOGUE['disk-removed'].hint),
    );
  }
  if (vm.disks.length === 0) {
    findings.push(critical(subject, 'it has none: there is nothing to replicate', 'Attach a disk to it.'));
  }
  if (findings.length > 0) return findings;
  const added = vm.disks.map(({ target }) => target).filter((target) => !isKnown(replicated, target));
  if (added.length > 0) {
    const set = `understudy replication set ${vm.name}`;
    const cure = `\`${set} --include-disk ${added[0]}\` copies it, \`${set} --exclude-disk ${added[0]}\` leaves it out.`;
    return [warning(subject, `${added.join(', ')} was added and is in no recovery point`, cure)];
  }
  return [ok(subject, `${vm.disks.map(({ target }) => target).join(', ')} can be tracked`)];
}

function judgeEncrypted({ vm, replicated }: VmFacts): Finding[] {
  const encrypted = vm.disks.filter((disk) => disk.encrypted === true).map(({ target }) => target);
  const concerned = encrypted.filter((target) => replicated?.leftOut.includes(target) !== true);
  if (concerned.length === 0) return [];
  const subject = `VM ${vm.name}: encryption`;
  const which = concerned.join(', ');
  const cure = CATALOGUE['disk-encrypted'].hint;
  if (replicated?.plaintext === true)
    return [warning(subject, `${which} is encrypted here, and its replica is plain text, as allowed`, PLAIN_CURE)];
  const found = `${which} is encrypted, and its replica would be plain text: it isn't replicated unless that is allowed`;
  return [replicated === undefined ? warning(subject, found, cure) : critical(subject, found, cure)];
}

const PLAIN_CURE =
  'Keep the replica directory of the Replica server, and the outbox and points directories of this host, on encrypted storage: see docs/encryption.md.';

function isKnown(replicated: VmFacts['replicated'], target: string): boolean {
  return replicated === undefined || replicated.disks.includes(target) || replicated.leftOut.includes(target);
}

function judgeBesides({ vm }: VmFacts): Finding[] {
  if (vm.besidesDisks.length === 0) return [];
  const cure = 'Keep them on the Replica server by hand, or do without: a failover starts the VM without them.';
  return [warning(`VM ${vm.name}: besides disks`, `${vm.besidesDisks.join(', ')}: this isn't replicated`, cure)];
}

/** It is asked first when the VM is to shut down; only a VM that runs says what there is. */
function judgeAgent({ vm, inspection }: VmFacts): Finding[] {
  const subject = `VM ${vm.name}: guest agent`;
  switch ('code' in inspection ? undefined : inspection.agent) {
    case undefined:
      return [];
    case 'connected':
      return [ok(subject, 'it answers')];
    case 'none':
      return [ok(subject, 'the VM has no channel for one: the guest is asked to shut down by its power button')];
    case 'silent': {
      const cure =
        'In the guest: `apt-get install qemu-guest-agent`, or what corresponds to it, and see that it runs. If it does, libvirt has lost it: ' +
        '`systemctl restart libvirtd` (or `virtqemud`) brings it back, and guests run on.';
      return [warning(subject, 'there is a channel for one, and nobody answers: the guest may be starting', cure)];
    }
  }
}

function judgeOthers({ vm, inspection }: VmFacts): Finding[] {
  const subject = `VM ${vm.name}: other programs`;
  if ('code' in inspection) return [warning(subject, inspection.message, inspection.hint)];
  const { foreignCheckpoints: checkpoints, foreignBitmaps: bitmaps } = inspection;
  if (checkpoints.length === 0 && bitmaps.length === 0) return [ok(subject, 'none has checkpoints or bitmaps in it')];
  const found = [
    ...(checkpoints.length === 0 ? [] : [`checkpoints ${checkpoints.join(', ')}`]),
    ...(bitmaps.length === 0 ? [] : [`bitmaps ${bitmaps.join(', ')}`]),
  ];
  const cure =
    'Nothing, while the program that made them is in use: both go on side by side, see docs/neighbours.md. If it is not: `virsh checkpoint-delete`, ' +
    'or with the VM off `qemu-img bitmap --remove`; they slow writes, and stand in the way of resizing and reverting.';
  return [warning(subject, `not ours: ${found.join('; ')}`, cure)];
}
