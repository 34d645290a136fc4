export interface GuestDomain {
  readonly name: string;
  /** UUID; libvirt makes one if it is left out. */
  readonly uuid?: string;
  /** Paths on the host. */
  readonly kernel: string;
  readonly initrd: string;
  readonly disks: readonly { readonly target: string; readonly path: string }[];
  /** File that the guest's console goes to, on the host. */
  readonly console: string;
  /** File that the workload announces its records in, on the host; see `Witness`. */
  readonly announcements: string;
  readonly memoryMiB: number;
  /** Records per second. */
  readonly rate: number;
  /** KiB per second of random rewrites on each disk. */
  readonly rewriteKiB: number;
  /** `A.B.C.D/N` on the hosts' network; none = the adapter has no address. */
  readonly address?: string;
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll("'", '&apos;');

/** The test guest's definition: emulated CPU, kernel and initrd given, virtio disks, agent, one adapter on the host's br0. */
export function guestDomainXml(domain: GuestDomain): string {
  const options = [
    'console=ttyS0 quiet panic=1 mitigations=off random.trust_cpu=on no_timer_check tsc=reliable cryptomgr.notests',
    `us.host=${domain.name} us.rate=${domain.rate} us.rewrite=${domain.rewriteKiB}`,
    ...(domain.address === undefined ? [] : [`us.address=${domain.address}`]),
  ].join(' ');
  const disks = domain.disks.map(
    ({ target, path }) => `
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='${escape(path)}'/>
      <target dev='${target}' bus='virtio'/>
    </disk>`,
  );
  return `<domain type='qemu'>
  <name>${escape(domain.name)}</name>${domain.uuid === undefined ? '' : `\n  <uuid>${domain.uuid}</uuid>`}
  <memory unit='MiB'>${domain.memoryMiB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>${escape(domain.kernel)}</kernel>
    <initrd>${escape(domain.initrd)}</initrd>
    <cmdline>${escape(options)}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>restart</on_crash>
  <devices>${disks.join('')}
    <interface type='bridge'>
      <source bridge='br0'/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>
    <serial type='file'><source path='${escape(domain.console)}' append='on'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='file'>
      <source path='${escape(domain.announcements)}' append='on'/>
      <target type='virtio' name='understudy.records'/>
    </channel>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <video><model type='none'/></video>
    <memballoon model='none'/>
  </devices>
</domain>
`;
}
