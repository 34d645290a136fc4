/**
 * Raw disks under tracking: libvirt keeps change bitmaps in qcow2 images only. So a VM that is off is defined on a tracking image beside its
 * raw disk (`qemu/tracking-image`), through which the raw disk is read and written, and back again. Whatever crashes, the VM is defined on the
 * one or the other, both hold the same, and no two of them are used at a time: a VM that runs is never redefined for good.
 */
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import type { DiskSource, Vm, VmDisk, VmState } from '../hypervisor/hypervisor.ts';
import type { Plan } from '../journal/plan.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { imageInfo, type ImageInfo } from '../qemu/image.ts';
import { makeTrackingImage, rawBeside, removeTrackingImage } from '../qemu/tracking-image.ts';
import { inTurn } from './definition.ts';
import type { FailoverServices } from './services.ts';

const argsSchema = z.object({
  vmId: z.string(),
  target: z.string(),
  /** Absolute path of the raw disk. */
  raw: z.string(),
  /** Absolute path of its tracking image. */
  image: z.string(),
});
type RawDisk = z.infer<typeof argsSchema>;
const args = (plan: Plan): RawDisk => argsSchema.parse(plan.args);

const onRaw = ({ raw }: RawDisk): DiskSource => ({ path: raw, format: 'raw' });
const onImage = ({ image }: RawDisk): DiskSource => ({ path: image, format: 'qcow2' });

/** Path of the raw disk under a disk that we have put under tracking; undefined for any other. */
export async function rawUnder({ path, format }: Pick<VmDisk, 'path' | 'format'>): Promise<string | undefined> {
  if (format !== 'qcow2' || rawBeside(path) === undefined) return undefined;
  const { dataFile } = await imageInfo(path, { format, inUse: true });
  return dataFile?.raw === true ? dataFile.path : undefined;
}

/** Path of a tracking image of ours under a disk that somebody has laid a snapshot over; undefined where there is none, or nothing can be read. */
export async function trackingImageUnder({
  path,
  format,
}: Pick<VmDisk, 'path' | 'format'>): Promise<string | undefined> {
  let next: { readonly path: string; readonly format?: string } = { path, format };
  try {
    for (;;) {
      if (next.format !== 'qcow2') return undefined;
      const { backing }: ImageInfo = await imageInfo(next.path, { format: next.format, inUse: true });
      if (backing === undefined) return undefined;
      next = { ...backing, path: resolve(dirname(next.path), backing.path) };
      if (next.format === 'qcow2' && (await rawUnder({ path: next.path, format: next.format })) !== undefined)
        return next.path;
    }
  } catch (error) {
    if (error instanceof Failure) return undefined; // a disk that is no file here, or isn't there: no snapshot over one of ours
    throw error;
  }
}

/** The VM must be off. Failures: `vm-running`, `wrong-state` (another image by now, saved memory), `io`, `no-space`. */
export const trackRawDisk: PlanDefinition<FailoverServices> = {
  kind: 'track-raw-disk',
  steps: [
    {
      name: 'make the tracking image',
      run: async (services, plan) => {
        const { image, raw } = args(plan);
        if (await isOn(services, args(plan), image)) return; // done, before a crash
        await makeTrackingImage(image, raw);
      },
      undo: async (services, plan) => {
        const { image } = args(plan);
        if (!(await isOn(services, args(plan), image))) await removeTrackingImage(image);
      },
    },
    {
      name: 'define the VM on the tracking image',
      run: (services, plan) => exchange(services, args(plan), onRaw(args(plan)), onImage(args(plan))),
      undo: (services, plan) => putBack(services, args(plan), onRaw(args(plan)), onImage(args(plan))),
    },
  ],
};

/** The VM must be off. Failures: `vm-running`, `wrong-state` (another image by now, saved memory), `io`. */
export const untrackRawDisk: PlanDefinition<FailoverServices> = {
  kind: 'untrack-raw-disk',
  steps: [
    {
      name: 'define the VM on the raw disk',
      run: (services, plan) => exchange(services, args(plan), onImage(args(plan)), onRaw(args(plan))),
      undo: (services, plan) => putBack(services, args(plan), onImage(args(plan)), onRaw(args(plan))),
    },
    {
      name: 'remove the tracking image',
      onFailure: 'stay',
      final: true,
      run: (_services, plan) => removeTrackingImage(args(plan).image),
    },
  ],
};

/** A VM that is off is defined on `to` instead of `from`. Doing it twice is no error. */
async function exchange(services: FailoverServices, disk: RawDisk, from: DiskSource, to: DiskSource): Promise<void> {
  await inTurn(services, disk.vmId, async () => {
    const before = await now(services, disk);
    if (before?.path === to.path) return; // done, before a crash; it may have been started since
    if (before === undefined || before.path !== from.path) throw movedOn(disk, before?.path);
    if (before.state === 'off') await define(services, disk, to);
    const after = await now(services, disk);
    if (after?.path === to.path) return;
    // Whoever started it in between runs on the old one, or a crash came before this was seen: so must it at its next start.
    await define(services, disk, from);
    throw new Failure('vm-running', `${before.name} was started: disk ${disk.target} stays on ${from.path}`);
  });
}

/** What `exchange` did, wholly or in part, is taken back. */
async function putBack(services: FailoverServices, disk: RawDisk, from: DiskSource, to: DiskSource): Promise<void> {
  await inTurn(services, disk.vmId, async () => {
    const present = await now(services, disk);
    const isHalfDone = present?.state === 'off' ? present.path === to.path : present?.path === from.path;
    if (isHalfDone) await define(services, disk, from);
  });
}

async function define({ hypervisor }: FailoverServices, { vmId, target }: RawDisk, source: DiskSource): Promise<void> {
  const { name } = await hypervisor.getVm(vmId);
  await hypervisor.define({
    definition: await hypervisor.exportDefinition(vmId),
    id: vmId,
    name,
    disks: new Map([[target, source]]),
    otherDisks: 'keep',
    network: 'as-defined',
    savedMemory: 'refuse',
  });
}

/** What the VM has for the disk: of one that runs, what it runs on. Undefined when there is no such VM or disk any more. */
async function now(
  { hypervisor }: FailoverServices,
  { vmId, target }: RawDisk,
): Promise<{ name: string; state: VmState; path: string } | undefined> {
  let vm: Vm;
  try {
    vm = await hypervisor.getVm(vmId);
  } catch (error) {
    if (asFailure(error).code === 'not-found') return undefined;
    throw error;
  }
  const found = vm.disks.find((disk) => disk.target === target);
  return found === undefined ? undefined : { name: vm.name, state: vm.state, path: found.path };
}

async function isOn(services: FailoverServices, disk: RawDisk, path: string): Promise<boolean> {
  return (await now(services, disk))?.path === path;
}

function movedOn({ target, raw }: RawDisk, path: string | undefined): Failure {
  const text = path === undefined ? `there is no disk ${target} any more` : `disk ${target} is on ${path} by now`;
  return new Failure('wrong-state', `${text}: nothing was done about ${raw}`, {
    hint: 'See `understudy vm list --json`, and ask again where it still applies.',
  });
}
