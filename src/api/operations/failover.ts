import * as z from 'zod';
import { onlyRef, point, ref } from '../input.ts';
import { operation } from '../operation.ts';
import { ActionView } from '../resources.ts';

const damaged = z
  .boolean()
  .optional()
  .describe('also from a recovery point that is known to hold damaged bytes, as it is');
const onReplica = 'Asked on the Replica server. ';
const asAction = 'Answers with the action that has begun; follow it with `actionWatch`.';

export const failoverOperations = {
  testFailoverStart: operation({
    summary: 'Test failover: start an isolated copy of the VM from a recovery point',
    description: `${onReplica}Replication goes on meanwhile. ${asAction}`,
    method: 'POST',
    path: '/replications/:ref/failover/test',
    input: z.strictObject({
      ref,
      point: point.optional().describe('sequence of a recovery point; default: the latest'),
      damaged,
    }),
    result: ActionView,
    errors: [
      'not-found',
      'wrong-role',
      'wrong-state',
      'already-exists',
      'point-damaged',
      'busy',
      'libvirt',
      'libvirt-down',
      'disk-engine',
      'no-space',
    ],
  }),
  testFailoverStop: operation({
    summary: 'End the test failover: the test VM and what it wrote are removed',
    description: `${onReplica}${asAction}`,
    method: 'DELETE',
    path: '/replications/:ref/failover/test',
    input: onlyRef,
    result: ActionView,
    errors: ['not-found', 'wrong-role', 'wrong-state', 'busy', 'libvirt', 'libvirt-down'],
  }),
  unplannedFailover: operation({
    summary: 'Unplanned failover: the primary is lost; run the VM here from a recovery point',
    description:
      `${onReplica}What the guest wrote after the point is lost. Refused while the primary answers that the VM still ` +
      `runs there. ${asAction}`,
    method: 'POST',
    path: '/replications/:ref/failover/unplanned',
    input: z.strictObject({
      ref,
      point: point.optional().describe('sequence of a recovery point; default: the latest'),
      force: z.boolean().default(false).describe('even though the primary answers that the VM runs there'),
      damaged,
    }),
    result: ActionView,
    errors: [
      'not-found',
      'wrong-role',
      'wrong-state',
      'vm-running',
      'point-damaged',
      'busy',
      'libvirt',
      'libvirt-down',
      'disk-engine',
      'no-space',
    ],
  }),
  cancelFailover: operation({
    summary: 'Cancel a failover that is not completed: what the VM wrote since is given up',
    description: `${onReplica}Replication from the old primary goes on. ${asAction}`,
    method: 'POST',
    path: '/replications/:ref/failover/cancel',
    input: onlyRef,
    result: ActionView,
    errors: ['not-found', 'wrong-role', 'wrong-state', 'busy', 'libvirt', 'libvirt-down'],
  }),
  completeFailover: operation({
    summary: 'Complete a failover: it stays, the other recovery points go',
    description: `${onReplica}Cannot be undone. ${asAction}`,
    method: 'POST',
    path: '/replications/:ref/failover/complete',
    input: onlyRef,
    result: ActionView,
    errors: ['not-found', 'wrong-role', 'wrong-state', 'busy', 'libvirt', 'libvirt-down'],
  }),
  plannedFailover: operation({
    summary: 'Planned failover: shut down here, send the last change, run at the replica; nothing is lost',
    description: `Asked on the primary. Replication is reversed. ${asAction}`,
    method: 'POST',
    path: '/replications/:ref/failover/planned',
    input: z.strictObject({
      ref,
      start: z.boolean().default(true).describe('start the VM at the other side'),
      shutdownTimeoutSeconds: z
        .int()
        .min(1)
        .max(3600)
        .default(120)
        .describe('how long the guest may take to shut down'),
    }),
    result: ActionView,
    errors: [
      'not-found',
      'wrong-role',
      'wrong-state',
      'busy',
      'shutdown-timeout',
      'point-damaged',
      'unreachable',
      'timeout',
      'not-following',
      'stale-epoch',
      'libvirt',
      'libvirt-down',
    ],
  }),
  reverseReplication: operation({
    summary: 'Reverse replication: this host, where the VM runs since a failover, becomes the primary',
    description: `Both sides are compared; only what differs is sent. Completes the failover. ${asAction}`,
    method: 'POST',
    path: '/replications/:ref/failover/reverse',
    input: onlyRef,
    result: ActionView,
    errors: [
      'not-found',
      'wrong-role',
      'wrong-state',
      'busy',
      'unreachable',
      'timeout',
      'stale-epoch',
      'libvirt',
      'libvirt-down',
    ],
  }),
};
