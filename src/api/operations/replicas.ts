import * as z from 'zod';
import { nothing } from '../input.ts';
import { operation } from '../operation.ts';
import { RescannedView, SeedView } from '../replica-resources.ts';

export const replicaOperations = {
  replicaSeed: operation({
    summary: 'Let the disks of a VM of this host be the beginning of a replica: a restored backup, shipped disks',
    description:
      'Run on the Replica server. The VM is off, and has the id or the name of the one that is to be replicated. When a peer then ' +
      'enables replication with `useSeed`, both sides are compared and only what differs is sent. The VM is defined anew, as the ' +
      'Replica VM, on these disks; what they hold stays as a recovery point.',
    method: 'POST',
    path: '/replicas/seeds',
    input: z.strictObject({
      vm: z.string().min(1).describe('name or id of the VM on this host'),
      peer: z
        .string()
        .min(1)
        .optional()
        .describe('paired host whose VM it is a copy of; left out: nobody may use it any more'),
    }),
    result: SeedView,
    errors: ['not-found', 'already-exists', 'vm-running', 'disk-unsupported', 'libvirt', 'libvirt-down'],
  }),
  replicaRescan: operation({
    summary: 'Find the replicas of this host again after its state database, or a Replica VM, was lost',
    description:
      'Every replica directory describes itself. Relationships that are not known are rebuilt, with their pairing; ' +
      'Replica VMs that are gone are defined again, locked. Nothing that is there is changed.',
    method: 'POST',
    path: '/replicas/rescan',
    input: nothing,
    result: z.array(RescannedView),
    errors: ['libvirt', 'libvirt-down', 'io'],
  }),
};
