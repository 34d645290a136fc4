import * as z from 'zod';
import { nothing } from '../input.ts';
import { operation } from '../operation.ts';
import { VmView } from '../resources.ts';

const oneDisk = z.strictObject({
  vm: z.string().min(1).describe('name or id of the VM'),
  disk: z.string().min(1).describe('device name in the VM: vda'),
});

const RawDiskView = z
  .object({
    id: z.string(),
    name: z.string(),
    target: z.string().describe('device name in the VM: vda'),
    raw: z.string().describe('path of the raw disk, file or block device'),
    image: z.string().nullable().describe('path of its tracking image; null where it has none any more'),
    state: z
      .enum(['tracked', 'tracked-at-power-off', 'plain', 'plain-at-power-off'])
      .describe('what the disk is, or is to become when the VM is seen off next'),
  })
  .meta({ id: 'RawDisk', description: 'A raw disk of a VM that is put under tracking, or given back.' });

const FAILURES = [
  'bad-request',
  'not-found',
  'wrong-role',
  'wrong-state',
  'disk-unsupported',
  'vm-running',
  'busy',
  'no-space',
  'io',
  'libvirt',
  'libvirt-down',
  'timeout',
] as const;

export const vmOperations = {
  vmList: operation({
    summary: 'List the VMs of this host: disks, whether they can be replicated, their relationships',
    method: 'GET',
    path: '/vms',
    input: nothing,
    result: z.array(VmView),
    errors: ['libvirt', 'libvirt-down', 'timeout'],
  }),
  vmTrackDisk: operation({
    summary: 'Put a raw disk under tracking, so that it can be replicated as it is',
    description:
      'From libvirt 10.10 on. A qcow2 image that holds change bitmaps and no data is made beside a raw file, or for a block device in ' +
      '`trackingDirectory`, and the VM is defined on it: it reads and writes the raw disk through it, byte for byte. At once where the ' +
      'VM is off, else when it is seen off next (a reboot from inside does not count); until then it can be taken back with `untrack`. ' +
      'As long as the disk is under tracking nobody else may write it: what is written beside the image is in no bitmap.',
    method: 'POST',
    path: '/vms/:vm/disks/:disk/track',
    input: oneDisk,
    result: RawDiskView,
    errors: [...FAILURES],
  }),
  vmUntrackDisk: operation({
    summary: 'Give a disk that was put under tracking back as the plain raw disk that it is',
    description:
      'At once where the VM is off, else when it is seen off next. Refused for a disk that is replicated: end that first, or detach the ' +
      'VM, which does both.',
    method: 'POST',
    path: '/vms/:vm/disks/:disk/untrack',
    input: oneDisk,
    result: RawDiskView,
    errors: [...FAILURES],
  }),
};
