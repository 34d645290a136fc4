/**
 * Why a replica refuses a log, or a word about its state: `not-following`, in its kinds, each with its own cure. A replica takes only
 * what follows exactly the state that it has. The primary finds most of these out by itself, asks where the replica stands, and both
 * sides are compared, when the relationship's setting allows it (auto-resync.ts); the cures are for when it doesn't.
 */
import { Failure } from './failure.ts';

interface Mismatch {
  /** What has happened. */
  readonly meaning: string;
  readonly cure: string;
}

export const NOT_FOLLOWING = {
  'other relationship': {
    meaning: 'A log of another primary, or of a relationship that was removed and enabled again.',
    cure: 'See on both hosts which one is right: `understudy replication list`. Remove the other one: `understudy replication remove`.',
  },
  repeated: {
    meaning:
      'The replica had this log before: the primary forgot that it was acknowledged, or the state of the primary was restored from a backup.',
    cure: 'See that no second daemon runs on a copy of the state directory of the primary. Then compare both sides: `understudy replication resync`.',
  },
  gap: {
    meaning:
      'Logs between the state of the replica and this one are missing: they were lost or came out of order, or the replica was restored from an older state.',
    cure: 'If the newer state of the replica is there still, put it back: nothing has to be compared then. Else compare both sides: `understudy replication resync`.',
  },
  'other state': {
    meaning:
      'The numbers agree, the content does not: the replica was restored or has followed another history than that of the primary.',
    cure: 'Do not fail over to points made since without looking into them (`understudy failover test`). Compare both sides: `understudy replication resync`.',
  },
  'other epoch': {
    meaning: 'One side knows of a failover of which the other one does not: it was restored from before it.',
    cure: 'The primary tells the replica the epoch whenever it begins anew: `understudy replication suspend`, then `resume`. If it is met again: `understudy replication resync`.',
  },
  'other disks': {
    meaning: 'Disks of the VM were removed, or came to stand in another order, since replication was enabled.',
    cure: 'Remove the relationship and enable replication again; with `--keep-disks` the last state that was replicated stays readable.',
  },
  'hole in the inbox': {
    meaning:
      'A log that the replica had acknowledged is missing in its `inbox/`: somebody removed it, or restored a part of the directory.',
    cure: 'Put the missing file back, or move the later ones away (both sides are compared then); then `understudy replica rescan` on the Replica server.',
  },
  'not the last state': {
    meaning: 'A planned failover would leave behind what the primary has and the replica has not.',
    cure: 'Cancel the failover, wait until replication has caught up (`understudy replication show`), and begin it again.',
  },
} as const satisfies Record<string, Mismatch>;

export type NotFollowing = keyof typeof NOT_FOLLOWING;

/** Failure `not-following` of a kind: the message says which. @param text both positions, and in what they differ. */
export function mismatch(kind: NotFollowing, text: string): Failure {
  return new Failure('not-following', `${kind}: ${text}`, { hint: NOT_FOLLOWING[kind].cure });
}
