/**
 * Cancels an unplanned failover: what the VM wrote here since is given up, and this host is the Replica server again, with
 * all its recovery points. The old primary goes on at its next contact (it finds us a replica with a higher epoch, and
 * takes that epoch over).
 */
import { Failure } from '../model/failure.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import { defineLocked } from './definition.ts';
import { failoverOverlays, move, recordOf, replicaOf, type FailoverServices } from './services.ts';
import { removeOverlays } from './unplanned.ts';

export function checkCancel(services: FailoverServices, id: string): void {
  const { state, vmName } = recordOf(services, id);
  if (state === 'FailedOverWaitingCompletion') return;
  throw new Failure('wrong-state', `${vmName} has no failover to cancel: it is in state ${state}`);
}

export const cancelFailover: PlanDefinition<FailoverServices> = {
  kind: 'cancel-failover',
  steps: [
    {
      name: 'stop the VM',
      onFailure: 'stay',
      run: (services, plan) => services.hypervisor.destroy(recordOf(services, plan.relationship).vmId),
    },
    {
      name: 'lock the VM',
      onFailure: 'stay',
      run: (services, plan) => defineLocked(services, recordOf(services, plan.relationship)),
    },
    {
      name: 'give the role back',
      onFailure: 'stay',
      run: async (services, plan) => {
        const { disks } = replicaOf(services, plan.relationship); // whatever sizes the point's were
        move(services, plan.relationship, 'failover-cancelled', { failover: null, disks });
      },
    },
    {
      name: 'remove what the VM wrote',
      onFailure: 'stay',
      run: async (services, plan) => {
        await removeOverlays(failoverOverlays(services, recordOf(services, plan.relationship)));
      },
    },
    {
      name: 'take the disks back',
      onFailure: 'stay',
      run: async (services, plan) => {
        await replicaOf(services, plan.relationship).thaw();
        services.event(plan.relationship, 'info', 'failover-cancelled', 'this host is the Replica server again');
      },
    },
  ],
};
