/**
 * Planned failover, on the Replica server: the old primary has shut the VM down, sent everything and asks us to take over.
 * The bitmap is started before the VM is, so that the way back needs no comparison.
 */
import { z } from 'zod';
import { positionSchema } from '../deltalog/header.ts';
import { Failure } from '../model/failure.ts';
import { mismatch } from '../model/not-following.ts';
import { samePosition } from '../model/relationship.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import type { Plan } from '../journal/plan.ts';
import { bitmapName } from '../primary/replication.ts';
import type { TakeOver } from '../protocol/endpoint.ts';
import { NO_STATISTICS } from '../store/store.ts';
import { defineLocked, defineRunnable } from './definition.ts';
import { endReplica, move, recordOf, replicaOf, type FailoverServices } from './services.ts';
import { beginFailover, requireEpoch } from './fence.ts';
import { beginLease, startHeld } from './lease.ts';

const argsSchema = z.object({ epoch: z.number(), position: positionSchema, start: z.boolean() });
const args = (plan: Plan) => argsSchema.parse(plan.args);

/** Checks that it may begin; gives the plan's arguments. Failures: `wrong-role`, `wrong-state`, `stale-epoch`, `not-following`, `point-damaged`. */
export function checkTakeOver(services: FailoverServices, id: string, request: TakeOver) {
  const record = recordOf(services, id);
  if (record.role !== 'replica') throw new Failure('wrong-role', `this host is the primary of ${record.vmName}`);
  if (record.test !== null) {
    throw new Failure('wrong-state', `a test failover of ${record.vmName} is running on its Replica server`, {
      hint: `End it there first: understudy failover test stop ${record.vmName}`,
    });
  }
  const replica = replicaOf(services, id);
  const { epoch, received } = replica.status();
  if (request.epoch <= epoch) throw new Failure('stale-epoch', `the replica holds epoch ${epoch} already`);
  if (!samePosition(received, request.position)) {
    const text = `the replica has log ${received.sequence}, the primary stopped at ${request.position.sequence}`;
    throw mismatch('not the last state', text);
  }
  const [latest] = replica.points();
  if (latest !== undefined) replica.requireSound(latest.sequence);
  return { epoch: request.epoch, position: request.position, start: request.start };
}

export const takeOver: PlanDefinition<FailoverServices> = {
  kind: 'take-over',
  steps: [
    {
      name: 'fence the old primary',
      run: async (services, plan) => {
        await beginFailover(services, plan.relationship, args(plan).epoch);
      },
      undo: async (services, plan) => {
        move(services, plan.relationship, 'failover-undone');
      },
    },
    {
      name: 'apply what was received',
      run: (services, plan) => replicaOf(services, plan.relationship).drained(),
    },
    {
      name: 'release disks',
      run: (services, plan) => replicaOf(services, plan.relationship).freeze(),
      undo: async (services, plan) => replicaOf(services, plan.relationship).thaw(),
    },
    {
      name: 'define the VM',
      run: (services, plan) => defineRunnable(services, recordOf(services, plan.relationship)),
      undo: (services, plan) => defineLocked(services, recordOf(services, plan.relationship)),
    },
    {
      name: 'start tracking',
      run: async (services, plan) => {
        const { vmId, disks } = recordOf(services, plan.relationship);
        const targets = disks.map(({ target }) => target);
        await services.hypervisor.startBitmap(vmId, targets, bitmap(plan));
      },
      undo: async (services, plan) => {
        // After a crash the definition may be locked already: then the hypervisor wouldn't find the images.
        const record = recordOf(services, plan.relationship);
        await defineRunnable(services, record);
        await services.hypervisor.dropBitmap(record.vmId, bitmap(plan));
      },
    },
    {
      name: 'take the role',
      run: async (services, plan) => {
        requireEpoch(services, plan.relationship, args(plan).epoch);
        // Before the old primary can see that this host is the primary, and so only while it isn't.
        const record = recordOf(services, plan.relationship);
        if (record.role === 'replica') {
          await beginLease(services, record);
          requireEpoch(services, plan.relationship, args(plan).epoch);
        }
        move(services, plan.relationship, 'taken-over', {
          position: args(plan).position,
          bitmap: bitmap(plan),
          copy: null,
          inFlight: null,
          suspended: false,
          failure: null,
          protectedUntil: services.now(),
          statistics: NO_STATISTICS,
        });
      },
      undo: async (services, plan) => {
        move(services, plan.relationship, 'role-returned', { bitmap: null });
      },
    },
    {
      name: 'start the VM',
      run: async (services, plan) => {
        if (args(plan).start) await startHeld(services, recordOf(services, plan.relationship));
      },
      undo: (services, plan) => services.hypervisor.destroy(recordOf(services, plan.relationship).vmId),
    },
    {
      name: 'remove recovery points',
      onFailure: 'stay',
      run: async (services, plan) => {
        // Done, and not noted by a daemon that died then: by now this host may have become the Replica server again.
        if (recordOf(services, plan.relationship).role === 'replica') return;
        const record = recordOf(services, plan.relationship);
        await endReplica(services, record);
        const { vmName, peer } = record;
        services.event(
          plan.relationship,
          'info',
          'taken-over',
          `${vmName} runs here now; ${peer} is its Replica server`,
        );
        services.primaries.start(plan.relationship);
      },
    },
  ],
};

function bitmap(plan: Plan): string {
  const { epoch, position } = args(plan);
  return bitmapName(plan.relationship, epoch, position.sequence);
}
