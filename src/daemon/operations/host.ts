import { tooOld, untried } from '../../model/versions.ts';
import { asFailure } from '../../model/failure.ts';
import type { Operations } from '../../api/contract.ts';
import { wishes } from '../raw-disks.ts';
import type { DaemonServices } from '../services.ts';
import { roomAt } from '../../lib/room.ts';
import { VERSION } from '../../lib/version.ts';

const AT_POWER_OFF = 'it is put under tracking when the VM is off';

type HostOperations = Pick<Operations, 'daemonStatus' | 'vmList'>;

export function hostOperations(services: DaemonServices): HostOperations {
  const { config, authority, hypervisor } = services;
  return {
    daemonStatus: async () => {
      const directories = [
        ['state', config.stateDirectory],
        ['replicas', config.replicaDirectory],
        ['outbox', config.outboxDirectory],
        ['points', config.pointDirectory],
      ] as const;
      const space = directories.map(async ([purpose, path]) => {
        return { purpose, path, ...(await roomAt(path)) };
      });
      return {
        name: config.name,
        version: VERSION,
        address: config.advertise,
        caFingerprint: authority.caFingerprint,
        startedAt: services.startedAt,
        now: services.now(),
        libvirt: await libvirtStatus(),
        space: await Promise.all(space),
      };
    },

    vmList: async () => {
      const records = services.store.relationships();
      const vms = await hypervisor.listVms();
      const waiting = wishes(services).filter(({ what }) => what === 'track');
      return vms.map((vm) => {
        const disks = vm.disks.map((disk) => {
          const { target, unsupported = null } = disk;
          const waits = waiting.some((wish) => wish.vmId === vm.id && wish.target === target);
          return {
            ...disk,
            unsupported: waits && unsupported !== null ? `${unsupported}; ${AT_POWER_OFF}` : unsupported,
          };
        });
        const unsupported = disks.filter((disk) => disk.unsupported !== null);
        const reason =
          vm.disks.length === 0
            ? 'it has no disk'
            : unsupported.length === 0
              ? null
              : unsupported.map(({ target, unsupported: why }) => `${target}: ${why}`).join('; ');
        return {
          ...vm,
          disks,
          replicable: reason === null,
          reason,
          replications: records
            .filter(({ vmId }) => vmId === vm.id)
            .map(({ id, role, peer, state }) => ({ id, role, peer, state })),
        };
      });
    },
  };

  async function libvirtStatus() {
    try {
      await hypervisor.listVms();
      const versions = await hypervisor.versions();
      return { reachable: true, failure: null, versions, remark: tooOld(versions) ?? untried(versions) ?? null };
    } catch (error) {
      return { reachable: false, failure: asFailure(error).toJSON(), versions: {}, remark: null };
    }
  }
}
