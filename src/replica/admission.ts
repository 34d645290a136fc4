/**
 * Which logs a replica takes: those of its relationship and epoch that follow exactly the state it has received.
 */
import type { LogHeader } from '../deltalog/header.ts';
import type { LogName } from '../protocol/endpoint.ts';
import { Failure } from '../model/failure.ts';
import { mismatch, type NotFollowing } from '../model/not-following.ts';
import { samePosition, type Position, type ReplicatedDisk } from '../model/relationship.ts';
import { canBecome } from '../model/shape.ts';

/** What a log must fit. */
export interface Expected {
  readonly relationship: string;
  readonly epoch: number;
  readonly received: Position;
  readonly disks: readonly ReplicatedDisk[];
}

export function describe(position: Position): string {
  return `epoch ${position.epoch}, log ${position.sequence}, state ${position.state.slice(0, 8)}`;
}

/** Failure `not-following`: says both positions and in what they differ. */
export function notFollowing(kind: NotFollowing, theirs: string, received: Position): Failure {
  return mismatch(kind, `${theirs}; the replica has received ${describe(received)}`);
}

/** Throws `not-following` unless the log is the next one by its number. */
export function admitName(log: LogName, received: Position): void {
  const { sequence } = log;
  if (sequence <= received.sequence) {
    throw notFollowing('repeated', `log ${sequence} (${log.logId.slice(0, 8)}) was offered`, received);
  }
  if (sequence > received.sequence + 1) throw notFollowing('gap', `log ${sequence} was offered`, received);
}

/** Throws `not-following`, `stale-epoch` or `bad-log` unless the log may be received under that name. */
export function admit(header: LogHeader, log: LogName, expected: Expected): void {
  const { received, epoch } = expected;
  if (header.sequence !== log.sequence || header.logId !== log.logId) {
    throw new Failure('bad-log', `log ${header.sequence} (${header.logId}) was sent as ${log.sequence} (${log.logId})`);
  }
  if (header.direction !== 'forward') throw new Failure('bad-log', `log ${header.sequence} is an undo log`);
  if (header.relationship !== expected.relationship) {
    throw notFollowing('other relationship', `log of relationship ${header.relationship}`, received);
  }
  if (header.epoch < epoch) {
    throw new Failure('stale-epoch', `log ${header.sequence} is of epoch ${header.epoch}; the replica is at ${epoch}`);
  }
  if (header.epoch > epoch) {
    throw notFollowing(
      'other epoch',
      `log ${header.sequence} is of epoch ${header.epoch}, ahead of ${epoch}`,
      received,
    );
  }
  if (!samePosition(header.follows, received)) {
    const kind =
      header.follows.sequence !== received.sequence
        ? header.follows.sequence < received.sequence
          ? 'repeated'
          : 'gap'
        : header.follows.epoch !== received.epoch
          ? 'other epoch'
          : 'other state';
    throw notFollowing(kind, `log ${header.sequence} follows ${describe(header.follows)}`, received);
  }
  if (header.sequence !== header.follows.sequence + 1) {
    throw notFollowing('gap', `log ${header.sequence} follows log ${header.follows.sequence}`, received);
  }
  admitDisks(header.disks, expected.disks, header.sequence);
}

function admitDisks(theirs: readonly ReplicatedDisk[], ours: readonly ReplicatedDisk[], sequence: number): void {
  const name = (disks: readonly ReplicatedDisk[]) => disks.map(({ target, size }) => `${target} (${size})`).join(', ');
  if (!canBecome(ours, theirs)) {
    throw mismatch('other disks', `log ${sequence} has ${name(theirs)}; the replica ${name(ours)}`);
  }
}
