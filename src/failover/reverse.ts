/**
 * Reverse replication after an unplanned failover: this host, where the VM runs, becomes the primary; the old primary
 * becomes the Replica server, with the disks that it has. Its change bitmap died with it, so both sides are compared
 * by digest and only what differs is sent. What the old primary's disks held stays there as a recovery point.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { positionSchema } from '../deltalog/header.ts';
import { asFailure, Failure } from '../model/failure.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import { prepareOf } from '../primary/prepare-of.ts';
import { NO_STATISTICS, type RelationshipRecord } from '../store/store.ts';
import { COMPLETE_STEPS } from './complete.ts';
import { noReplicaIn } from './encrypted.ts';
import { mayRun } from './lease.ts';
import { move, recordOf, type FailoverServices } from './services.ts';

const argsSchema = z.object({ start: positionSchema });

/** Checks that it may begin; gives the plan's arguments. */
export async function checkReverse(services: FailoverServices, id: string) {
  const record = recordOf(services, id);
  if (record.role !== 'primary' || (record.state !== 'FailedOverWaitingCompletion' && record.state !== 'FailedOver')) {
    throw new Failure(
      'wrong-state',
      `${record.vmName} has not failed over to this host: it is ${record.role}, ${record.state}`,
    );
  }
  // Asked now, so that an unreachable peer is said before the failover is completed.
  const status = await services.peer(record.peer).status(id);
  if (status.epoch > record.epoch) throw new Failure('stale-epoch', `${record.peer} holds epoch ${status.epoch}`);
  if (status.encrypted !== undefined) throw noReplicaIn(`${record.vmName} on ${record.peer}`, status.encrypted);
  const { epoch, position } = record;
  const sequence = Math.max(position.sequence, status.received.sequence);
  return { start: { epoch, sequence, state: randomBytes(16).toString('hex') } };
}

export const reverseReplication: PlanDefinition<FailoverServices> = {
  kind: 'reverse-replication',
  steps: [
    ...COMPLETE_STEPS,
    {
      name: 'make the old primary the Replica server',
      onFailure: 'stay',
      run: async (services, plan) => {
        const record = recordOf(services, plan.relationship);
        if (hasMovedOn(record)) return;
        // From here on that host may fail over again: this one runs with a lease.
        if (!(await mayRun(services, record))) throw new Failure('busy', `${record.peer} grants no lease`);
        const endpoint = services.peer(record.peer);
        const prepared = endpoint.prepare({
          ...prepareOf(record),
          base: 'compare',
          start: argsSchema.parse(plan.args).start,
        });
        // The other side was asked before, and has failed over since: the first look at it will tell that the role is lost.
        await prepared.catch((error: unknown) => {
          if (asFailure(error).code !== 'stale-epoch') throw error;
        });
      },
    },
    {
      name: 'begin to compare',
      run: async (services, plan) => {
        if (hasMovedOn(recordOf(services, plan.relationship))) return;
        move(services, plan.relationship, 'reversed', {
          position: argsSchema.parse(plan.args).start,
          bitmap: null,
          copy: null,
          inFlight: null,
          protectedUntil: null,
          failure: null,
          resync: {
            reason: `replication was reversed: ${recordOf(services, plan.relationship).peer} has disks of its own`,
            begin: 'at-once',
          },
          statistics: NO_STATISTICS,
        });
        services.event(plan.relationship, 'info', 'reversed', 'replication is reversed: both sides are compared');
        services.primaries.start(plan.relationship);
      },
    },
  ],
};

/** The other side has failed over in its turn, before this plan had come to its end: there is nothing left to reverse. */
function hasMovedOn({ role, state }: RelationshipRecord): boolean {
  return role === 'replica' || state === 'SteppedDown';
}
