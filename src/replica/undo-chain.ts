/**
 * The undo logs of a replica: the way back from the flat disks to each older recovery point, one step each, without a
 * hole. Where two neighbours meet, the position that the newer one makes is the one that the older one follows.
 */
import { readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { LogReader } from '../deltalog/reader.ts';
import { removeDurably, syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { Failure } from '../model/failure.ts';
import type { Position, RecoveryPoint } from '../model/relationship.ts';
import { describe } from './admission.ts';
import { parseUndoName, type ReplicaLayout } from './layout.ts';

export interface UndoLog {
  readonly path: string;
  /** The state from which it leads back. */
  readonly follows: Position;
  /** The state to which it leads. */
  readonly makes: Position;
  /** The recovery point that that state is; null where it is none. */
  readonly point: RecoveryPoint | null;
  /** Both states hold the same bytes. */
  readonly empty: boolean;
}

/** The same state; a failover gives the state at which it took place a new epoch, and so a new name. */
export function sameState(a: Position, b: Position): boolean {
  return a.sequence === b.sequence && (a.epoch !== b.epoch || a.state === b.state);
}

export class UndoChain {
  readonly #directory: string;
  /** Oldest first. */
  #logs: UndoLog[];

  private constructor(directory: string, logs: UndoLog[]) {
    this.#directory = directory;
    this.#logs = logs;
  }

  /**
   * Opens what is there. The newest may undo a log that is only being applied (`pending`: the position that this log
   * makes). Failure `io` on a hole.
   */
  static async open(layout: ReplicaLayout, applied: Position, pending: Position | undefined): Promise<UndoChain> {
    const logs: UndoLog[] = [];
    for (const name of (await readdir(layout.undo)).toSorted()) {
      const path = join(layout.undo, name);
      if (parseUndoName(name) === undefined) await unlink(path);
      else logs.push(await readUndo(path));
    }
    await syncDirectory(layout.undo);
    for (const [i, log] of logs.entries()) {
      const older = logs[i - 1];
      if (older !== undefined && !sameState(older.follows, log.makes)) throw hole(layout.undo, older, log);
    }
    const newest = logs.at(-1);
    if (newest !== undefined && !sameState(newest.follows, applied)) {
      if (!sameState(newest.makes, applied)) throw astray(newest, applied);
      const undoesPending = pending !== undefined && sameState(newest.follows, pending);
      // An empty one renames a state (`bridge`); its new name didn't come into force.
      if (!undoesPending && !newest.empty) throw astray(newest, applied);
      if (!undoesPending) await removeDurably(logs.pop()!.path);
    }
    return new UndoChain(layout.undo, logs);
  }

  /** Oldest first. */
  get logs(): readonly UndoLog[] {
    return this.#logs;
  }

  /** Recovery points that they lead back to, newest first. */
  get points(): RecoveryPoint[] {
    return this.#logs.flatMap(({ point }) => point ?? []).toReversed();
  }

  /** The undo log that leads back from a position, if there is one. */
  leadingFrom(position: Position): UndoLog | undefined {
    return this.#logs.find(({ follows }) => sameState(follows, position));
  }

  /** The undo logs that a point of that sequence needs, oldest first. */
  backTo(sequence: number): UndoLog[] {
    return this.#logs.filter(({ makes }) => makes.sequence >= sequence);
  }

  /** Takes a finished, durable undo log in as the newest. */
  add(log: UndoLog): void {
    this.#logs.push(log);
  }

  /** Keeps the `keep` newest points and removes all undo logs that none of them needs. Views keep their descriptors. */
  async retire(keep: number): Promise<void> {
    const { points } = this;
    const oldest = keep === 0 ? undefined : (points[keep - 1] ?? points.at(-1));
    const first = this.#logs.findIndex(({ makes }) => oldest !== undefined && makes.sequence >= oldest.sequence);
    const gone = first === -1 ? this.#logs : this.#logs.slice(0, first);
    if (gone.length === 0) return;
    this.#logs = this.#logs.slice(gone.length); // off the list before the first one is damaged
    for (const { path } of gone) {
      await unlink(path); // oldest first: what a crash leaves is still a chain
      crashPoint('replica:retired');
    }
    await syncDirectory(this.#directory);
  }
}

export async function readUndo(path: string): Promise<UndoLog> {
  const reader = await LogReader.open(path);
  try {
    const { header, footer } = reader;
    if (header.direction !== 'undo') throw new Failure('io', `${path} is not an undo log`);
    const { follows, point } = header;
    return { path, follows, makes: footer.makes, point, empty: footer.frames === 0 };
  } finally {
    await reader.close();
  }
}

function astray(newest: UndoLog, applied: Position): Failure {
  return new Failure('io', `${newest.path} undoes ${describe(newest.follows)}, but ${describe(applied)} is applied`, {
    hint: 'Restore the missing files of the replica, or move its undo directory away and give its older points up.',
  });
}

function hole(directory: string, older: UndoLog, newer: UndoLog): Failure {
  return new Failure(
    'io',
    `undo logs in ${directory} have a hole: one leads back to ${describe(newer.makes)}, the next older one from ${describe(older.follows)}`,
    { hint: 'Restore the missing file, or move the older undo logs away and give their points up.' },
  );
}
