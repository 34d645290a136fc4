/** Disks that aren't replicated, as a person decides about them: to be replicated, too, or left out without a warning. */
import { diskEncrypted, type Vm } from '../hypervisor/hypervisor.ts';
import { Failure } from '../model/failure.ts';
import type { Versions } from '../model/versions.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { untracked } from './untracked.ts';

export interface DiskChoice {
  /** Targets. */
  readonly includeDisks: readonly string[];
  readonly excludeDisks: readonly string[];
}

/** What changes of the record. Failures: `not-found`, `disk-unsupported`, `disk-encrypted`, `wrong-state` for a disk that is replicated and can't be left out. */
export function chosenDisks(
  record: RelationshipRecord,
  vm: Vm,
  { includeDisks, excludeDisks }: DiskChoice,
  versions: Versions,
): Pick<RelationshipRecord, 'wanted' | 'leftOut' | 'unprotected'> {
  const { vmName, disks, unprotected = [], wanted = [] } = record;
  const isReplicated = (target: string): boolean => disks.some((disk) => disk.target === target);
  const replicated = excludeDisks.find(isReplicated);
  if (replicated !== undefined) {
    throw new Failure('wrong-state', `disk ${replicated} of ${vmName} is replicated: recovery points have it`, {
      hint: 'To go on without it, remove replication and enable it again with --exclude-disk.',
    });
  }
  for (const target of [...includeDisks, ...excludeDisks]) {
    const found = vm.disks.find((disk) => disk.target === target);
    if (found === undefined) throw new Failure('not-found', `${vmName} has no disk ${target}`);
    if (!includeDisks.includes(target)) continue;
    if (excludeDisks.includes(target))
      throw new Failure('bad-request', `disk ${target} can't be both replicated and left out`);
    if (found.encrypted === true && record.replicaPlaintext !== true) throw diskEncrypted(vmName, [target]);
    if (found.unsupported !== undefined) throw untracked(vmName, found, versions);
  }
  const others = vm.disks.map(({ target }) => target).filter((target) => !isReplicated(target));
  const { leftOut = others.filter((target) => !unprotected.includes(target)) } = record;
  return {
    wanted: [
      ...wanted.filter((target) => !excludeDisks.includes(target)),
      ...includeDisks.filter((target) => !isReplicated(target) && !wanted.includes(target)),
    ],
    leftOut: [...new Set([...leftOut.filter((target) => !includeDisks.includes(target)), ...excludeDisks])],
    unprotected: unprotected.filter((target) => !excludeDisks.includes(target)),
  };
}
