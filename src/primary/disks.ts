/**
 * The VM's disks as they are now: its administrator resizes them, moves them to other images (a snapshot, a copy with pivot), while
 * replication goes on. Every log says in its header which disks the state has that it makes; so the next log after a change brings the
 * replica into shape, also one in which nothing else has changed.
 */
import type { PointExport, Vm } from '../hypervisor/hypervisor.ts';
import { bytesText } from '../lib/bytes-text.ts';
import { Failure } from '../model/failure.ts';
import { without, type ChangedExtent } from '../model/extent.ts';
import { presentDisks, sameShape } from '../model/shape.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import type { LocalDisk } from '../store/store.ts';
import type { PointReader } from './capture.ts';
import { behindEnds } from './copy-progress.ts';
import { joinDisks } from './joining.ts';
import { partDisks } from './leaving.ts';
import { within } from './repairs.ts';
import type { Replication } from './replication.ts';

/** Takes note of what has become of the VM's disks since the last cycle. */
export async function followDisks(replication: Replication): Promise<void> {
  const vm = await attached(replication);
  noticeOthers(replication, vm);
  const now = replication.record.disks.map((disk) => {
    if (disk.gone === true) return disk;
    const found = vm.disks.find(({ target }) => target === disk.target)!;
    // Why one can't be read, says whoever opens a point of it.
    return found.size === 0 ? disk : { ...disk, size: found.size, path: found.path };
  });
  noticeEncrypted(replication, vm);
  await take(replication, now);
  await joinDisks(replication);
}

/** A disk that has come to stand on an encrypted image. Where that may not be read, whoever opens a point says so. */
function noticeEncrypted({ record, services }: Replication, vm: Vm): void {
  if (record.replicaPlaintext !== true) return;
  for (const { target, path } of vm.disks.filter(({ encrypted }) => encrypted === true)) {
    const before = presentDisks(record.disks).find((disk) => disk.target === target);
    if (before === undefined || before.path === path) continue;
    const text = `disk ${target} of ${record.vmName} is encrypted now: its replica on ${record.peer} is plain text, as allowed`;
    services.event('warning', 'replica-plaintext', text);
  }
}

/**
 * The VM, if it has all disks that are replicated. Failure `disk-removed` otherwise: nothing is begun then, so that its bitmap stays where
 * it is, and replication goes on from there when the disk is back; or without it, when a person says so.
 */
export async function attached(replication: Replication): Promise<Vm> {
  await partDisks(replication);
  const { disks, vmId, vmName, peer, leaving = [] } = replication.record;
  const vm = await replication.services.hypervisor.getVm(vmId);
  const missing = presentDisks(disks.filter(({ target }) => !leaving.includes(target))).filter(
    ({ target }) => !vm.disks.some((disk) => disk.target === target),
  );
  if (missing.length === 0) return vm;
  const names = missing.map(({ target, path }) => `${target} (${path})`).join(', ');
  throw new Failure(
    'disk-removed',
    `${vmName} has lost its disk ${names}; ${peer} keeps all disks as they were before`,
  );
}

/** A disk that was added is in no recovery point: that is said. Those that were there when replication was enabled were left out by a person. */
function noticeOthers(replication: Replication, vm: Vm): void {
  const { unprotected = [], wanted = [], vmName } = replication.record;
  const disks = presentDisks(replication.record.disks);
  const others = vm.disks.map(({ target }) => target).filter((target) => !disks.some((disk) => disk.target === target));
  const { leftOut = others.filter((target) => !unprotected.includes(target)) } = replication.record;
  // After a failover, or an older version: remembered, so that the next start doesn't take one that is added meanwhile for one of them.
  if (replication.record.leftOut === undefined) replication.update({ leftOut });
  const added = others.filter((target) => !leftOut.includes(target));
  if (added.join() === unprotected.join()) return;
  replication.update({ unprotected: added });
  for (const target of added.filter((one) => !unprotected.includes(one) && !wanted.includes(one))) {
    const set = `understudy replication set ${vmName}`;
    const why = vm.disks.find((disk) => disk.target === target)?.unsupported;
    const cure =
      why === undefined
        ? `\`${set} --include-disk ${target}\` copies it, \`${set} --exclude-disk ${target}\` leaves it out`
        : `it can't be replicated: ${why}; \`${set} --exclude-disk ${target}\` leaves it out`;
    const text = `disk ${target} was added to ${vmName}: it is in no recovery point`;
    replication.services.event('critical', 'disk-unprotected', `${text}; ${cure}`);
  }
}

/**
 * Looks whether the disks of a point have the sizes that are known. Failure `disks-changed` when not: the new ones are remembered, and what
 * was about to be read begins again.
 */
export async function noticeSizes(replication: Replication, exports: readonly PointExport[]): Promise<void> {
  const sizes = new Map(exports.map(({ target, size }) => [target, size]));
  const now = replication.record.disks.map((disk) => ({ ...disk, size: sizes.get(disk.target) ?? disk.size }));
  if (!(await take(replication, now))) return;
  throw new Failure('disks-changed', `disks of ${replication.record.vmName} were resized just now`);
}

/** @returns whether the shape is another one than before. */
async function take(replication: Replication, now: readonly LocalDisk[]): Promise<boolean> {
  const { disks, vmName, verification, copy, shortest = [] } = replication.record;
  const { known, event } = replication.services;
  for (const [i, { target, path }] of now.entries()) {
    if (path !== disks[i]!.path) event('info', 'disk-moved', `disk ${target} of ${vmName} is ${path} now`);
  }
  if (sameShape(now, disks)) {
    if (now.some(({ path }, i) => path !== disks[i]!.path)) replication.update({ disks: now });
    return false;
  }
  replication.update({
    disks: now,
    reshaped: true,
    shortest: now.map(({ size }, i) => Math.min(size, disks[i]!.size, shortest[i] ?? size)),
    copy: copy === null ? null : behindEnds(copy, now),
    ...(verification === undefined
      ? {}
      : { verification: { ...verification, pass: null, repairs: within(verification.repairs, now) } }),
  });
  // Files of what is known are of a size.
  await known.close();
  const changes = now.flatMap(({ target, size }, i) => {
    const before = disks[i]!.size;
    return size === before ? [] : [`${target} from ${bytesText(before)} to ${bytesText(size)}`];
  });
  event(
    'info',
    'disks-changed',
    `disks of ${vmName} were resized (${changes.join(', ')}): the replica's follow with the next log`,
  );
  return true;
}

/**
 * What has changed of a disk, with what reads as zeros beyond where it has ended in between: a disk that became shorter, and longer again
 * before the replica was told, has lost what was there, and no bitmap says so.
 */
export async function withGained(
  replication: Replication,
  reader: PointReader,
  disk: number,
  changed: readonly ChangedExtent[],
): Promise<readonly ChangedExtent[]> {
  const size = reader.size(disk);
  const end = replication.record.shortest?.[disk] ?? size;
  const from = end - (end % DIGEST_BLOCK);
  if (end >= size) return changed;
  const zeros = (await reader.all(disk, from, size)).filter(({ zero }) => zero);
  return [...without(changed, zeros), ...zeros].toSorted((a, b) => a.offset - b.offset);
}
