/** Ends a relationship on this host, and on the peer where it can be reached. The VM and its disks on the primary stay. */
import { z } from 'zod';
import { asFailure } from '../model/failure.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import type { Plan } from '../journal/plan.ts';
import { bitmapName } from '../primary/replication.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { defineRunnable } from './definition.ts';
import { stepDown } from './fence.ts';
import { keepLease } from './lease.ts';
import { recordOf, update, type FailoverServices } from './services.ts';

const argsSchema = z.object({ keepDisks: z.boolean(), tellPeer: z.boolean() });
const args = (plan: Plan) => argsSchema.parse(plan.args);

export const removeReplication: PlanDefinition<FailoverServices> = {
  kind: 'remove-replication',
  steps: [
    {
      name: 'stop replicating',
      onFailure: 'stay',
      run: (services, plan) => services.primaries.forget(plan.relationship),
    },
    {
      name: 'remove the replica on the peer',
      onFailure: 'stay',
      run: async (services, plan) => {
        const record = recordOf(services, plan.relationship);
        if (!args(plan).tellPeer || record.role !== 'primary') return;
        try {
          await services.peer(record.peer).remove(record.id, { keepDisks: args(plan).keepDisks });
        } catch (error) {
          const { code, message } = asFailure(error);
          if (code === 'not-found') return;
          // It has taken the role over, and this host hasn't heard of that yet: afterwards nobody would tell it.
          if (code === 'wrong-role') await stepDown(services, record.id);
          const text = `${record.peer} was not told (${message}): remove the relationship there too`;
          services.event(record.id, 'warning', 'peer-not-told', text);
        }
      },
    },
    {
      name: 'clean up the VM',
      onFailure: 'stay',
      run: async (services, plan) => {
        const record = recordOf(services, plan.relationship);
        if (record.role === 'primary') await cleanPrimary(services, record.id);
        else await cleanReplica(services, record.id, args(plan).keepDisks);
      },
    },
    {
      name: 'forget the relationship',
      onFailure: 'stay',
      run: async (services, plan) => {
        const record = services.store.relationship(plan.relationship);
        if (record === undefined) return;
        update(services, record.id, { leaseSeconds: 0 });
        await keepLease(services, record.id);
        services.event(
          plan.relationship,
          'info',
          'removed',
          `replication of ${record.vmName} with ${record.peer} ended`,
        );
        services.store.deleteRelationship(plan.relationship);
      },
    },
  ],
};

/** No bitmap, checkpoint or job of ours stays in the VM; what libvirt's autostart was, it is again, where the VM is at home. */
async function cleanPrimary(services: FailoverServices, id: string): Promise<void> {
  const { hypervisor } = services;
  const record = recordOf(services, id);
  const isGivenUp = record.state === 'SteppedDown' || record.state === 'PreparedForFailover';
  if (isGivenUp) await defineRunnable(services, record);
  const vms = await hypervisor.listVms();
  // Its owner may have removed the VM first.
  if (vms.some((vm) => vm.id === record.vmId)) {
    await cleanVm(services, record);
    if (isGivenUp) leaveOff(services, record);
    else if (record.autostart) await hypervisor.setAutostart(record.vmId, true);
  }
  await services.replicas.remove(id, { keepDisks: true });
}

/** The VM runs on the other host, or was about to: the next restart of this one must not start a second copy. */
function leaveOff({ event }: FailoverServices, { id, vmName, peer, autostart }: RelationshipRecord): void {
  const later = autostart ? ' It does not start with the host any more: `virsh autostart` when it is to.' : '';
  const text = `${peer} has taken ${vmName} over: it stays stopped here. Start it only when it does not run there.${later}`;
  event(id, 'warning', 'left-off', text);
}

async function cleanVm({ hypervisor }: FailoverServices, { id, vmId }: RelationshipRecord): Promise<void> {
  await hypervisor.closePoint(vmId);
  const prefix = bitmapName(id, 0, 0).slice(0, -'0-0'.length);
  for (const { name } of await hypervisor.listBitmaps(vmId)) {
    if (name.startsWith(prefix)) await hypervisor.dropBitmap(vmId, name);
  }
}

async function cleanReplica(services: FailoverServices, id: string, keepDisks: boolean): Promise<void> {
  const { hypervisor } = services;
  const record = recordOf(services, id);
  if (record.test !== null) {
    await hypervisor.destroy(record.test.vmId);
    await hypervisor.undefine(record.test.vmId);
    // After its VM: a daemon that starts anew before that opens it again.
    await services.testViews.close(id);
    update(services, id, { test: null });
  }
  await hypervisor.undefine(record.vmId);
  await services.replicas.remove(id, { keepDisks });
}
