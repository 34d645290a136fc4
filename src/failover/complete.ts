/**
 * Completes a failover: what the VM wrote goes into the replica's disks, on which it runs from then on; the other recovery
 * points go. There is no way back after it.
 */
import { Failure } from '../model/failure.ts';
import type { PlanDefinition, PlanStep } from '../journal/runner.ts';
import { defineRunnable } from './definition.ts';
import { endReplica, failoverOverlays, move, recordOf, type FailoverServices } from './services.ts';
import { removeOverlays } from './unplanned.ts';

export function checkComplete(services: FailoverServices, id: string): void {
  const { state, vmName } = recordOf(services, id);
  if (state === 'FailedOverWaitingCompletion') return;
  throw new Failure('wrong-state', `${vmName} has no failover to complete: it is in state ${state}`);
}

/** Each does nothing when it is done already, so that reverse replication can begin with them. */
export const COMPLETE_STEPS: PlanStep<FailoverServices>[] = [
  {
    name: 'merge what the VM wrote',
    final: true,
    run: async (services, plan) => {
      const record = recordOf(services, plan.relationship);
      const overlays = new Set(failoverOverlays(services, record).values());
      const vm = await services.hypervisor.getVm(record.vmId);
      const targets = vm.disks.filter(({ path }) => overlays.has(path)).map(({ target }) => target);
      if (targets.length > 0) await services.hypervisor.commitOverlays(record.vmId, targets);
    },
  },
  {
    name: 'define the VM on its disks',
    run: (services, plan) => defineRunnable(services, recordOf(services, plan.relationship)),
  },
  {
    name: 'remove recovery points',
    run: async (services, plan) => {
      const record = recordOf(services, plan.relationship);
      await endReplica(services, record);
      await removeOverlays(failoverOverlays(services, record));
    },
  },
  {
    name: 'note completion',
    run: async (services, plan) => {
      const { state } = recordOf(services, plan.relationship);
      if (state !== 'FailedOverWaitingCompletion') return;
      move(services, plan.relationship, 'failover-completed', { failover: null });
      services.event(plan.relationship, 'info', 'failover-completed', 'the failover is complete');
    },
  },
];

export const completeFailover: PlanDefinition<FailoverServices> = { kind: 'complete-failover', steps: COMPLETE_STEPS };
