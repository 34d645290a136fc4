import * as z from 'zod';
import { nothing } from '../input.ts';
import { operation } from '../operation.ts';
import { RescannedView } from '../resources.ts';

export const replicaOperations = {
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
