/** What the machine and its hypervisor are, and whether that will do. */
import type { FailureJson } from '../../model/failure.ts';
import { tooOld, untried, type Versions } from '../../model/versions.ts';
import { critical, ok, warning, type Finding } from './finding.ts';

/** Beyond owners and modes. */
export interface Confinement {
  /** AppArmor in the kernel, and whether its local rules for VMs name the point directory; undefined: not in force. */
  readonly appArmor?: { readonly namesPoints: boolean };
  /** SELinux, when it enforces, and the label of the point directory. */
  readonly seLinux?: { readonly label: string };
  readonly pointDirectory: string;
}

export interface MachineFacts extends Confinement {
  /** CPU's flag of virtualization; `unknown`: of an architecture that has none. */
  readonly cpu: 'vmx' | 'svm' | 'none' | 'unknown';
  /** `barred`: there, and QEMU's user may not use it; `unknown`: there, and nobody can ask in his name. */
  readonly kvm: 'usable' | 'barred' | 'absent' | 'unknown';
  /** Whom QEMU runs as, in words. */
  readonly vmUser: string;
  /** Or why the hypervisor doesn't say them. */
  readonly versions: Versions | FailureJson;
}

/** Labels of directories in which SELinux lets QEMU make sockets. */
const SOCKET_LABELS = /:(qemu_var_run_t|svirt_image_t):/;

export function judgeMachine(facts: MachineFacts): Finding[] {
  return [judgeVersions(facts.versions), judgeKvm(facts), ...judgeConfinement(facts)];
}

/** What keeps QEMU to its own files. */
export function judgeConfinement(facts: Confinement): Finding[] {
  return [judgeAppArmor(facts), ...judgeSeLinux(facts)];
}

export function judgeVersions(versions: MachineFacts['versions']): Finding {
  if (isFailure(versions)) return critical('hypervisor', versions.message, versions.hint);
  const found = Object.entries(versions)
    .map(([program, version]) => `${program} ${version}`)
    .join(', ');
  const old = tooOld(versions);
  if (old !== undefined) return critical('hypervisor', old, 'Upgrade it; README says which versions are supported.');
  const remark = untried(versions);
  if (remark === undefined) return ok('hypervisor', found);
  return warning('hypervisor', remark, 'Try a test failover of each kind of VM before you rely on it.');
}

function isFailure(versions: MachineFacts['versions']): versions is FailureJson {
  return 'code' in versions && 'hint' in versions;
}

function judgeKvm({ cpu, kvm, vmUser }: MachineFacts): Finding {
  const slow = 'a VM that wants KVM does not start here, others are emulated, and slow';
  if (kvm === 'usable') return ok('KVM', `/dev/kvm is there, and ${vmUser} may use it`);
  if (kvm === 'unknown') {
    return warning(
      'KVM',
      `/dev/kvm is there; whether ${vmUser} may use it couldn't be asked`,
      'Run understudyd as root.',
    );
  }
  if (kvm === 'barred') {
    const cure =
      "Give /dev/kvm to its group and QEMU's user that group: `chgrp kvm /dev/kvm; chmod 660 /dev/kvm; usermod -aG kvm USER` " +
      '(the rules of udev do the first two where they are installed).';
    return warning('KVM', `/dev/kvm is there, and ${vmUser} may not use it: ${slow}`, cure);
  }
  const module = cpu === 'vmx' ? 'kvm_intel' : cpu === 'svm' ? 'kvm_amd' : 'kvm';
  const cure =
    cpu === 'none'
      ? "Turn virtualization on in the machine's firmware; where this host is a VM itself: nested virtualization on its host."
      : `Load the module: \`modprobe ${module}\`; the kernel's log says why where it can't be.`;
  const because = cpu === 'none' ? ', and the CPU shows no virtualization' : '';
  return warning('KVM', `there is no /dev/kvm${because}: ${slow}`, cure);
}

function judgeAppArmor({ appArmor, pointDirectory }: Confinement): Finding {
  if (appArmor === undefined) return ok('AppArmor', 'not in force');
  if (appArmor.namesPoints) return ok('AppArmor', `the local rules for VMs name ${pointDirectory}`);
  const found = `in force, and the local rules for VMs do not name ${pointDirectory}: QEMU may be kept from its sockets there`;
  return warning('AppArmor', found, 'Add the rules of packaging/apparmor/libvirt-qemu, as docs/rights.md says.');
}

function judgeSeLinux({ seLinux, pointDirectory }: Confinement): Finding[] {
  if (seLinux === undefined) return [];
  if (SOCKET_LABELS.test(seLinux.label)) return [ok('SELinux', `${pointDirectory} is labelled ${seLinux.label}`)];
  const found = `enforcing, and ${pointDirectory} is labelled ${seLinux.label}: QEMU may be kept from its sockets there`;
  return [warning('SELinux', found, 'Label it qemu_var_run_t, as docs/rights.md says.')];
}
