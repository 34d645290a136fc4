/** Beside whatever else works on the VMs of this host, and out of its way. */
import type { Operations } from '../../api/contract.ts';
import { BITMAP_PREFIX } from '../../hypervisor/hypervisor.ts';
import { trackingImageUnder } from '../../failover/raw-disk.ts';
import { update } from '../../failover/services.ts';
import { yieldedUntil, yielding } from '../../model/yielding.ts';
import { endReplication } from '../end-replication.ts';
import { dropWish, fulfil, putWish, trackedRawDisks, wishes } from '../raw-disks.ts';
import { findPrimary, requireIdle } from '../relationships.ts';
import type { DaemonServices } from '../services.ts';
import { viewOf } from './replications.ts';

type NeighbourOperations = Pick<Operations, 'replicationYield' | 'vmDetach'>;

export function neighbourOperations(services: DaemonServices): NeighbourOperations {
  const { store, hypervisor, primaries } = services;
  return {
    replicationYield: async ({ ref, seconds }) => {
      const record = requireIdle(services, findPrimary(services, ref));
      const { id, vmName, failure } = record;
      const now = services.now();
      const yieldUntil = now + seconds * 1000;
      await primaries.stop(id);
      if (seconds > 0) {
        const why = yielding(vmName, yieldUntil);
        update(services, id, { yieldUntil, failure: why.toJSON() });
        services.event(id, 'info', 'yielded', why.message);
      } else if (yieldedUntil(record, now) !== undefined) {
        update(services, id, { yieldUntil, ...(failure?.code === 'yielded' ? { failure: null } : {}) });
        services.event(id, 'info', 'yield-ended', `${vmName} is read again`);
      }
      primaries.start(id);
      return await viewOf(services, id);
    },

    vmDetach: async ({ vm: ref }) => {
      const { id, name } = await hypervisor.getVm(ref);
      const record = store.relationships().find(({ vmId }) => vmId === id);
      if (record !== undefined) await endReplication(services, record, { keepDisks: true });
      // With a replica its definition has gone.
      const bitmaps = record?.role === 'replica' ? 0 : await dropAll(id);
      const replication = record === undefined ? null : { id: record.id, role: record.role, peer: record.peer };
      const rawDisks = record?.role === 'replica' ? [] : await giveRawDisksBack(id);
      return { id, name, replication, bitmaps, rawDisks };
    },
  };

  async function giveRawDisksBack(vmId: string) {
    const vm = await hypervisor.getVm(vmId);
    for (const wish of wishes(services)) if (wish.vmId === vmId) dropWish(services, wish);
    const state = vm.state === 'off' ? ('given-back' as const) : ('at-power-off' as const);
    const tracked = await trackedRawDisks(vm);
    for (const { target } of tracked) {
      const wish = { vmId, target, what: 'untrack' } as const;
      if (vm.state === 'off') await fulfil(services, vm, wish);
      else putWish(services, wish);
    }
    const left = [];
    for (const disk of vm.disks.filter(({ target }) => !tracked.some((one) => one.target === target))) {
      const path = await trackingImageUnder(disk);
      if (path !== undefined) left.push({ target: disk.target, path, state: 'under-snapshot' as const });
    }
    return [...tracked.map(({ target, raw }) => ({ target, path: raw, state })), ...left];
  }

  /** @returns how many there were. */
  async function dropAll(vmId: string): Promise<number> {
    await hypervisor.closePoint(vmId);
    const ours = (await hypervisor.listBitmaps(vmId)).filter(({ name }) => name.startsWith(BITMAP_PREFIX));
    for (const { name } of ours) await hypervisor.dropBitmap(vmId, name);
    return ours.length;
  }
}
