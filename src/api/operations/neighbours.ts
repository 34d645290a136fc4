import * as z from 'zod';
import { LONGEST_YIELD_SECONDS } from '../../model/yielding.ts';
import { ref } from '../input.ts';
import { operation } from '../operation.ts';
import { ReplicationView, role } from '../resources.ts';

const DetachedView = z
  .object({
    id: z.string(),
    name: z.string(),
    replication: z
      .object({ id: z.string(), role, peer: z.string() })
      .nullable()
      .describe('the relationship that has ended'),
    bitmaps: z.number().int().describe('removed besides those of the relationship'),
    rawDisks: z
      .array(
        z.object({
          target: z.string(),
          path: z.string().describe('of the raw disk; of its tracking image where that stays'),
          state: z
            .enum(['given-back', 'at-power-off', 'under-snapshot'])
            .describe(
              'at-power-off: it is given back when the VM is seen off next; under-snapshot: it stays, since somebody has laid a snapshot ' +
                'over it: merge that, and detach again',
            ),
        }),
      )
      .describe('raw disks that were under tracking'),
  })
  .meta({ id: 'Detached', description: 'A VM in which nothing of understudy is left.' });

/** Beside whatever else works on the VMs of this host. */
export const neighbourOperations = {
  replicationYield: operation({
    summary: "Leave a VM's domain to other programs for a while: no backup job, checkpoint or bitmap call of ours",
    description:
      'Asked on the primary. Changes are recorded, nothing is read or sent, and the lag grows; it goes on by itself when the time is ' +
      'over. What was being read is ended at once and read again later.',
    method: 'POST',
    path: '/replications/:ref/yield',
    input: z.strictObject({
      ref,
      seconds: z.int().min(0).max(LONGEST_YIELD_SECONDS).describe('for so long from now on; 0: no longer'),
    }),
    result: ReplicationView,
    errors: ['not-found', 'wrong-role', 'busy', 'libvirt', 'libvirt-down'],
  }),
  vmDetach: operation({
    summary:
      'Take all that is ours out of a VM: its relationship, bitmaps, checkpoints, an open job, a locked definition',
    description:
      'The VM and its disks stay as they are, running or off, and so do the disks of its replica. On a Replica server the definition ' +
      'that keeps the Replica VM from being started goes. Bitmaps that no relationship knows any more go, too; those of others are left alone. Raw ' +
      'disks that were put under tracking are plain raw disks again, of a VM that runs when it is seen off next.',
    method: 'POST',
    path: '/vms/:vm/detach',
    input: z.strictObject({ vm: z.string().min(1).describe('name or id of the VM') }),
    result: DetachedView,
    errors: [
      'not-found',
      'wrong-state',
      'vm-running',
      'busy',
      'job-conflict',
      'io',
      'libvirt',
      'libvirt-down',
      'timeout',
    ],
  }),
};
