/**
 * Planned failover, on the primary: shut the guest down, send the last change, hand the role over. Nothing is lost and
 * two VMs never run: this host's VM is off and locked before the other side is asked to take over. What happens there is `take-over.ts`.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { positionSchema } from '../deltalog/header.ts';
import { within } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';
import { rememberPeer } from '../replica/record.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { samePosition } from '../model/relationship.ts';
import { judgePeer } from '../model/role.ts';
import { presentDisks } from '../model/shape.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import type { Plan } from '../journal/plan.ts';
import { removeBitmapsFromDisks } from './bitmaps.ts';
import { defineLocked, defineRunnable } from './definition.ts';
import { requirePlainDisks } from './encrypted.ts';
import { stepDown } from './fence.ts';
import { forgetStopped, grantLease } from './lease.ts';
import { move, recordOf, update, type FailoverServices } from './services.ts';
import { startAgain } from './starting.ts';
import { prepareOf } from '../primary/prepare-of.ts';

const argsSchema = z.object({
  start: z.boolean(),
  shutdownTimeoutMs: z.number(),
  wasRunning: z.boolean(),
  epoch: z.number(),
  takeOver: z.string(),
});

export interface PlannedRequest {
  /** Start the VM at the other side. */
  readonly start: boolean;
  readonly shutdownTimeoutSeconds: number;
}

function requireReplicating(services: FailoverServices, id: string): RelationshipRecord {
  const record = recordOf(services, id);
  const { role, state, copy, vmName, peer } = record;
  if (role !== 'primary') {
    throw new Failure('wrong-role', `${vmName} does not run on this host; a planned failover begins on ${peer}`);
  }
  if (state !== 'Replicating' || copy !== null) {
    throw new Failure('wrong-state', `${vmName} is in state ${state}; a planned failover needs Replicating`);
  }
  return record;
}

/** Checks that it may begin; gives the plan's arguments. Failures: `wrong-role`, `wrong-state`, `unreachable`, … */
export async function checkPlanned(services: FailoverServices, id: string, request: PlannedRequest) {
  const status = await services.peer(requireReplicating(services, id).peer).status(id);
  const record = requireReplicating(services, id); // much may have happened meanwhile
  const judged = judgePeer(record, status);
  if (judged === 'lost' || judged === 'wait') {
    throw new Failure(
      'wrong-state',
      `${record.peer} is ${status.role} in state ${status.state}, epoch ${status.epoch}`,
    );
  }
  // A failover there began and was cancelled, and this host has had nothing to send since, by which it would have heard.
  const { epoch } = judged === 'adopt' ? update(services, id, { epoch: status.epoch }) : record;
  await requirePlainDisks(services, record);
  const vm = await services.hypervisor.vmStatus(record.vmId);
  return {
    start: request.start,
    shutdownTimeoutMs: request.shutdownTimeoutSeconds * 1000,
    wasRunning: vm.state !== 'off' || record.stoppedByLease === true,
    epoch: epoch + 1,
    takeOver: randomUUID(),
  };
}

const args = (plan: Plan) => argsSchema.parse(plan.args);
/** How long a cycle of a planned failover may take before the plan is taken back. */
const CYCLE_MS = 60 * 60 * 1000;

/** Errors after which it isn't known whether the other side has taken over. */
const UNKNOWN_OUTCOME = new Set(['unreachable', 'interrupted', 'timeout', 'busy']);

export const plannedFailover: PlanDefinition<FailoverServices> = {
  kind: 'planned-failover',
  steps: [
    {
      name: 'send what has changed',
      run: async (services, plan, signal) => {
        // While the guest still runs: what is left to send after its shutdown is small.
        await services.primaries.stop(plan.relationship);
        await cycle(services, plan, 'crash-consistent', signal);
      },
      undo: async (services, plan) => {
        if (!handedOver(services, plan)) services.primaries.start(plan.relationship);
      },
    },
    {
      name: 'shut the guest down',
      run: async (services, plan) => {
        await forgetStopped(services, plan.relationship);
        await services.hypervisor.shutdown(recordOf(services, plan.relationship).vmId, args(plan).shutdownTimeoutMs);
        await forgetStopped(services, plan.relationship); // it may have been off otherwise than by its guest
      },
      undo: async (services, plan) => {
        if (!args(plan).wasRunning || handedOver(services, plan)) return;
        const told = plan.failure?.code === 'stale-epoch' || plan.obstacle?.code === 'busy';
        await startAgain(services, plan.relationship, told);
      },
    },
    {
      name: 'send the last change',
      run: async (services, plan, signal) => {
        // After a crash the loop may not have been stopped yet in this process: stopping twice is harmless.
        await services.primaries.stop(plan.relationship);
        await cycle(services, plan, 'planned', signal);
      },
    },
    {
      name: 'lock the VM',
      run: async (services, plan) => {
        const record = recordOf(services, plan.relationship);
        await requireOff(services, record);
        await requirePlainDisks(services, record);
        await defineLocked(services, record);
        await requireOff(services, record); // from now on it can't be started any more
        move(services, plan.relationship, 'prepared');
      },
      undo: async (services, plan) => {
        if (handedOver(services, plan) || recordOf(services, plan.relationship).state === 'SteppedDown') return;
        const record = move(services, plan.relationship, 'preparation-undone');
        await defineRunnable(services, record);
      },
    },
    {
      name: 'hand over',
      onFailure: (failure) => (UNKNOWN_OUTCOME.has(failure.code) ? 'stay' : 'undo'),
      run: async (services, plan) => {
        const { epoch, start, takeOver } = args(plan);
        const { peer, position } = recordOf(services, plan.relationship);
        await services.peer(peer).takeOver(plan.relationship, { planId: takeOver, epoch, position, start });
      },
      undo: async (services, plan, signal) => {
        // A request may still be on its way: a higher epoch at the replica makes it worthless, or we learn that it was heard.
        const record = recordOf(services, plan.relationship);
        if (handedOver(services, plan)) return;
        const { epoch } = args(plan);
        const endpoint = services.peer(record.peer);
        const status = await endpoint.status(record.id, signal);
        if (status.role === 'primary') {
          // By a failover of its own: then we step down, before it is silent. Else it took over after all, and we follow.
          if (status.state.startsWith('FailedOver')) await stepDown(services, record.id);
          else await becomeReplica(services, plan);
          return;
        }
        if (status.state === 'RecoveryInProgress') {
          throw new Failure('busy', `${record.peer} is taking over, or taking it back`);
        }
        // A failover there that was taken back may have raised it already.
        const above = Math.max(epoch + 1, status.epoch);
        await endpoint.prepare({ ...prepareOf(record), epoch: above, base: 'continue' });
        update(services, record.id, { epoch: above });
      },
    },
    {
      name: 'become the Replica server',
      final: true,
      run: becomeReplica,
    },
  ],
};

/** Sends all that has changed, until it is acknowledged. Failure `timeout` when that takes too long. */
async function cycle(
  services: FailoverServices,
  plan: Plan,
  kind: 'crash-consistent' | 'planned',
  signal: AbortSignal,
): Promise<void> {
  const { vmName, peer } = recordOf(services, plan.relationship);
  const late = () => {
    const text = `what has changed of ${vmName} was not on ${peer} within ${CYCLE_MS / 60_000} min`;
    const hint =
      'Let replication catch up first: `understudy replication show` says how far it is and what holds it up.';
    return new Failure('timeout', text, { hint });
  };
  const loop = services.primaries.loop(plan.relationship);
  await within(CYCLE_MS, late, (stop) => loop.cycleNow(kind, AbortSignal.any([signal, stop])));
}

async function requireOff(services: FailoverServices, { vmId, vmName }: RelationshipRecord): Promise<void> {
  const { state } = await services.hypervisor.vmStatus(vmId);
  if (state !== 'off') throw new Failure('vm-running', `${vmName} was started during its planned failover`);
}

function handedOver(services: FailoverServices, plan: Plan): boolean {
  return recordOf(services, plan.relationship).role === 'replica';
}

/** The VM's disks here hold exactly the position that was handed over: they become the replica as they are. */
async function becomeReplica(services: FailoverServices, plan: Plan): Promise<void> {
  // Noted by a daemon that died then: by now the replica may follow the other side, and have moved on.
  if (handedOver(services, plan)) return;
  const { epoch } = args(plan);
  const record = recordOf(services, plan.relationship);
  const { id } = record;
  const present = services.replicas.find(id);
  if (present !== undefined && !samePosition(present.status().applied, positionSchema.parse(record.position))) {
    throw new Failure('already-exists', `a replica of ${record.vmName} is here already, at another position`);
  }
  if (present === undefined) {
    await removeBitmapsFromDisks(record);
    const instant = record.protectedUntil ?? services.now();
    const { sequence } = record.position;
    await services.replicas.create({
      id,
      vmId: record.vmId,
      vmName: record.vmName,
      definition: record.definition,
      disks: presentDisks(record.disks),
      epoch,
      intervalSeconds: record.intervalSeconds,
      history: record.history,
      thin: record.thin ?? [],
      leaseSeconds: record.leaseSeconds ?? 0,
      ...(record.definitionPolicy === undefined ? {} : { definitionPolicy: record.definitionPolicy }),
      peer: rememberPeer(services.store, record.peer),
      position: record.position,
      latest: { sequence, epoch: record.position.epoch, instant, confirmed: instant, kind: 'planned' },
    });
  }
  // A daemon that dies here finds a replica of a primary when it starts, and freezes it.
  await present?.thaw();
  grantLease(services, id, record.leaseSeconds ?? 0); // the other side has run with one since it took the role
  move(services, id, 'handed-over', {
    epoch,
    disks: presentDisks(record.disks),
    bitmap: null,
    copy: null,
    inFlight: null,
    suspended: false,
    failure: null,
  });
  const text = `${record.vmName} runs on ${record.peer} now; this host is its Replica server`;
  services.event(id, 'info', 'handed-over', text);
}
