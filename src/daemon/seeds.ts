/**
 * VMs of this host whose disks may become a replica's: a restored backup, shipped disks, those that an earlier replica left. Only the
 * administrator of this host can say so, per VM and peer: else any paired host could take a VM over that is off.
 */
import { removeBitmapsFromDisks } from '../failover/bitmaps.ts';
import { noReplicaIn } from '../failover/encrypted.ts';
import type { Vm } from '../hypervisor/hypervisor.ts';
import { Failure } from '../model/failure.ts';
import type { PrepareReplica } from '../protocol/endpoint.ts';
import { imageInfo } from '../qemu/image.ts';
import type { FormerDisks } from '../replica/endpoint.ts';
import type { DaemonServices } from './services.ts';

type SeedServices = Pick<DaemonServices, 'hypervisor' | 'store' | 'now' | 'config'>;

const keyOf = (vmId: string): string => `seed ${vmId}`;

/** Marks a VM's disks as a peer's to begin with; `null` takes the mark away. Failures: `vm-running`, `already-exists`, `disk-unsupported`. */
export async function markSeed(services: SeedServices, ref: string, peer: string | null): Promise<Vm> {
  const { hypervisor, store } = services;
  const vm = await hypervisor.getVm(ref);
  if (peer !== null) {
    if (store.peer(peer) === undefined) throw new Failure('not-found', `${peer} is not paired with this host`);
    await requireSeed(services, vm);
  }
  store.setSetting(keyOf(vm.id), peer ?? '');
  return vm;
}

/** The VM that a peer may begin a replica with; undefined where none of that id or name is marked for it. */
export async function seedFor(
  { hypervisor, store }: SeedServices,
  peer: string,
  request: Pick<PrepareReplica, 'vmId' | 'vmName'>,
): Promise<Vm | undefined> {
  const vms = await hypervisor.listVms();
  return vms.find(
    ({ id, name }) => (id === request.vmId || name === request.vmName) && store.setting(keyOf(id)) === peer,
  );
}

/** Gives a marked VM's disks away: from now on they are the replica's. Its definition gives way to the primary's. */
export async function giveSeed(services: SeedServices, vm: Vm, request: PrepareReplica): Promise<FormerDisks> {
  await requireSeed(services, vm);
  await removeBitmapsFromDisks(vm);
  await services.hypervisor.setAutostart(vm.id, false);
  if (vm.id !== request.vmId) await services.hypervisor.undefine(vm.id);
  return { disks: vm.disks.map(({ target, size, path }) => ({ target, size, path })), instant: services.now() };
}

/** The mark has served: the disks are a replica's, which is remembered. */
export function forgetSeed(services: SeedServices, vmId: string): void {
  services.store.setSetting(keyOf(vmId), '');
}

async function requireSeed({ hypervisor, store, config }: SeedServices, { id, name, disks }: Vm): Promise<void> {
  const present = store.relationships().find(({ vmId }) => vmId === id);
  if (present !== undefined) {
    throw new Failure('already-exists', `${name} has a replication relationship with ${present.peer} already`);
  }
  if ((await hypervisor.vmStatus(id)).state !== 'off') {
    throw new Failure('vm-running', `${name} runs on ${config.name}: its disks can't become a replica's`);
  }
  for (const { target, path, format } of disks) {
    const { backing, encrypted } = format === 'qcow2' ? await imageInfo(path, { format }) : {};
    if (encrypted === true) throw noReplicaIn(name, [target], 'A replica can only begin with plain qcow2 images.');
    const chained = backing !== undefined;
    if (format === 'qcow2' && !chained) continue;
    const why = chained ? 'has a backing file' : `is ${format}`;
    throw new Failure('disk-unsupported', `${name}, disk ${target} ${why}: a replica's disks are flat qcow2`, {
      hint: `Convert it: qemu-img convert -O qcow2 ${path} NEW`,
    });
  }
}
