import type { Operations } from '../../api/contract.ts';
import type { Vm } from '../../hypervisor/hypervisor.ts';
import { dropWish, fulfil, putWish, rawDiskOf, trackedRawDisks, type RawDisk, type Wish } from '../raw-disks.ts';
import type { DaemonServices } from '../services.ts';

type RawDiskOperations = Pick<Operations, 'vmTrackDisk' | 'vmUntrackDisk'>;

export function rawDiskOperations(services: DaemonServices): RawDiskOperations {
  const { hypervisor } = services;
  return {
    vmTrackDisk: async ({ vm: ref, disk }) => {
      const vm = await hypervisor.getVm(ref);
      const present = (await trackedRawDisks(vm)).find(({ target }) => target === disk);
      if (present === undefined) return await now(vm, { vmId: vm.id, target: disk, what: 'track' });
      dropWish(services, { vmId: vm.id, target: disk }); // to have it back
      return view(vm, present, 'tracked');
    },

    vmUntrackDisk: async ({ vm: ref, disk }) => {
      const vm = await hypervisor.getVm(ref);
      const raw = vm.disks.find((one) => one.target === disk && one.raw === true)?.path;
      const wasWished = dropWish(services, { vmId: vm.id, target: disk });
      if (raw !== undefined && wasWished) return view(vm, { target: disk, raw, image: null }, 'plain');
      return await now(vm, { vmId: vm.id, target: disk, what: 'untrack' });
    },
  };

  /** Or at the next power-off. */
  async function now(vm: Vm, wish: Wish) {
    const found = await rawDiskOf(services, vm, wish);
    if (vm.state === 'off') {
      await fulfil(services, vm, wish);
      return view(vm, found, wish.what === 'track' ? 'tracked' : 'plain');
    }
    putWish(services, wish);
    return view(vm, found, wish.what === 'track' ? 'tracked-at-power-off' : 'plain-at-power-off');
  }
}

type View = Awaited<ReturnType<RawDiskOperations['vmTrackDisk']>>;

function view(
  { id, name }: Vm,
  { target, raw, image }: Omit<RawDisk, 'image'> & { readonly image: string | null },
  state: View['state'],
): View {
  return { id, name, target, raw, image: state === 'plain' ? null : image, state };
}
