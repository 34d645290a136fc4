import * as z from 'zod';
import { nothing } from '../input.ts';
import { operation } from '../operation.ts';
import { VmView } from '../resources.ts';

export const vmOperations = {
  vmList: operation({
    summary: 'List the VMs of this host: disks, whether they can be replicated, their relationships',
    method: 'GET',
    path: '/vms',
    input: nothing,
    result: z.array(VmView),
    errors: ['libvirt', 'libvirt-down', 'timeout'],
  }),
};
