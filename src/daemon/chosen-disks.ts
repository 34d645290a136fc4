/** Disks as a person decides about them: to be replicated, too, or left out: those that were added without a warning, others from now on. */
import { stat } from 'node:fs/promises';
import type { Vm } from '../hypervisor/hypervisor.ts';
import { Failure } from '../model/failure.ts';
import type { Versions } from '../model/versions.ts';
import { presentDisks } from '../model/shape.ts';
import { whyNotJoin } from '../primary/joining.ts';
import { imageInfo } from '../qemu/image.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { untracked } from './untracked.ts';

export interface DiskChoice {
  /** Targets. */
  readonly includeDisks: readonly string[];
  readonly excludeDisks: readonly string[];
}

/** About how many bytes disks bring along: what their images take, or all of one of which that says too little. */
export async function bytesOfDisks(vm: Vm, targets: readonly string[]): Promise<number> {
  let bytes = 0;
  for (const { path, format, size } of vm.disks.filter(({ target }) => targets.includes(target))) {
    const { backing, dataFile } = await imageInfo(path, { format, inUse: true });
    const file = await stat(dataFile?.path ?? path);
    bytes += file.isFile() && backing === undefined ? Math.min(size, file.blocks * 512) : size;
  }
  return bytes;
}

/** What changes of the record. Failures: `not-found`, `disk-unsupported`, `disk-encrypted`, `bad-request` where no disk would be left. */
export function chosenDisks(
  record: RelationshipRecord,
  vm: Vm,
  { includeDisks, excludeDisks }: DiskChoice,
  versions: Versions,
): Pick<RelationshipRecord, 'wanted' | 'leaving' | 'leftOut' | 'unprotected'> {
  const { vmName, unprotected = [], wanted = [], leaving = [] } = record;
  const replicated = presentDisks(record.disks).map(({ target }) => target);
  for (const target of includeDisks) {
    if (excludeDisks.includes(target))
      throw new Failure('bad-request', `disk ${target} can't be both replicated and left out`);
    const failure = whyNotJoin(vm, target, record.replicaPlaintext === true);
    // What can be done about it goes by the versions.
    const found = vm.disks.find((disk) => disk.target === target);
    if (failure?.code === 'disk-unsupported' && found?.unsupported !== undefined)
      throw untracked(vmName, found, versions);
    if (failure !== undefined) throw failure;
  }
  const attached = vm.disks.map(({ target }) => target);
  const unknown = excludeDisks.find((target) => !attached.includes(target) && !replicated.includes(target));
  if (unknown !== undefined) throw new Failure('not-found', `${vmName} has no disk ${unknown}`);
  const goes = [...new Set([...leaving, ...excludeDisks])].filter(
    (target) => replicated.includes(target) && !includeDisks.includes(target),
  );
  if (replicated.every((target) => goes.includes(target))) {
    throw new Failure('bad-request', `no disk of ${vmName} would be replicated any more`, {
      hint: `To end it, remove replication: \`understudy replication remove ${vmName}\`.`,
    });
  }
  const others = attached.filter((target) => !replicated.includes(target));
  const { leftOut = others.filter((target) => !unprotected.includes(target)) } = record;
  return {
    wanted: [
      ...wanted.filter((target) => !excludeDisks.includes(target)),
      ...includeDisks.filter((target) => !replicated.includes(target) && !wanted.includes(target)),
    ],
    leaving: goes,
    leftOut: [...new Set([...leftOut.filter((target) => !includeDisks.includes(target)), ...excludeDisks])],
    unprotected: unprotected.filter((target) => !excludeDisks.includes(target)),
  };
}
