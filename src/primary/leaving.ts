/**
 * A replicated disk that is gone for good, because a person says so: whether it is still there, was taken out, or is only being copied.
 * From the next log on the state hasn't it; that log makes a point of the others. It keeps its place in the list of disks, and its image at
 * the Replica server, as long as an older point has it.
 */
import { crashPoint } from '../lib/crash-point.ts';
import { behindEnds } from './copy-progress.ts';
import { within } from './repairs.ts';
import type { Replication } from './replication.ts';

/** Lets go of the disks that are to go. Not while a log is under way: that tells of them as they were. */
export async function partDisks(replication: Replication): Promise<void> {
  const { leaving = [], inFlight } = replication.record;
  if (leaving.length === 0 || inFlight !== null) return;
  const { known, event } = replication.services;
  // Its files are by the place of a disk.
  await known.close();
  const { disks, copy, verification, joining = [], vmName, peer, ...now } = replication.record;
  const left = disks.map((disk) => (leaving.includes(disk.target) ? { ...disk, gone: true as const } : disk));
  const stays = (target: string): boolean => !leaving.includes(target);
  replication.update({
    disks: left,
    // Its administrator may have named another one meanwhile.
    leaving: (now.leaving ?? []).filter(stays),
    joining: joining.filter(stays),
    reshaped: true,
    copy: copy === null ? null : behindEnds(copy, left),
    ...(verification === undefined
      ? {}
      : { verification: { ...verification, pass: null, repairs: within(verification.repairs, left) } }),
  });
  crashPoint('leaving:noted');
  const given = leaving.filter((target) => joining.includes(target));
  const gone = leaving.filter((target) => !joining.includes(target));
  if (given.length > 0) {
    event(
      'info',
      'disk-join-given-up',
      `disk ${given.join(', ')} of ${vmName} is not copied to ${peer} any more, as asked for`,
    );
  }
  if (gone.length > 0) {
    const text = `disk ${gone.join(', ')} of ${vmName} is in no recovery point from now on, as asked for; older ones on ${peer} have it`;
    event('warning', 'disk-left', text);
  }
}
