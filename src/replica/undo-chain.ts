/**
 * The undo logs of a replica: the way back from the flat disks to each older recovery point, one step each, without a
 * hole. Where two neighbours meet, the position that the newer one makes is the one that the older one follows.
 *
 * A point that is given up is off the list at once. If it is the oldest, its undo log goes; else that log is still a step
 * on the way to older points, until it is merged with its older neighbour (merger.ts). So are the logs of a copy's slices, which
 * lead to no point.
 */
import { readdir, rename, stat, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { LogReader } from '../deltalog/reader.ts';
import { makeDirectory, removeDurably, syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { Failure } from '../model/failure.ts';
import type { Position, RecoveryPoint, ReplicatedDisk } from '../model/relationship.ts';
import { sameShape } from '../model/shape.ts';
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
  /** Disks of that state. */
  readonly disks: readonly ReplicatedDisk[];
  /** Both states hold the same bytes. */
  readonly empty: boolean;
  /** Size of the file. */
  readonly bytes: number;
}

/** Two neighbours that may become one: nobody needs the state between them. */
export interface Mergeable {
  readonly older: UndoLog;
  readonly newer: UndoLog;
}

/**
 * A log is merged into its older neighbour once it is at least a half as large. So a byte is copied as often as the
 * logarithm of the sizes only, however many points come and go, and what waits to be merged takes no more room than what
 * it waits for.
 */
const MERGE_AT = 1 / 2;

/** The same state; a failover gives the state at which it took place a new epoch, and so a new name. */
export function sameState(a: Position, b: Position): boolean {
  return a.sequence === b.sequence && (a.epoch !== b.epoch || a.state === b.state);
}

export class UndoChain {
  readonly #directory: string;
  /** Oldest first. */
  #logs: UndoLog[];
  /** Points that were given up, while the logs that lead to them are still here. */
  #retired: ReadonlySet<number> = new Set();

  /** Names of those that were put aside when it was opened, with all older ones: one of them was damaged. */
  readonly lost: readonly string[];

  private constructor(directory: string, logs: UndoLog[], lost: readonly string[]) {
    this.#directory = directory;
    this.#logs = logs;
    this.lost = lost;
  }

  /**
   * Opens what is there. The newest may undo a log that is only being applied (`pending`: the position that this log
   * makes; `lost`: that log is gone, and what was written of it is to be taken back). One that can't be read is put aside with all
   * older ones: what they lead to can't be reached any more. Failure `io` on a hole.
   */
  static async open(
    layout: ReplicaLayout,
    applied: Position,
    pending: Position | 'lost' | undefined,
  ): Promise<UndoChain> {
    let logs: UndoLog[] = [];
    let lost: string[] = [];
    const before: string[] = [];
    for (const name of (await readdir(layout.undo)).toSorted()) {
      const path = join(layout.undo, name);
      if (parseUndoName(name) === undefined) {
        await unlink(path);
        continue;
      }
      before.push(name);
      const log = await readUndo(path).catch((error: unknown) => {
        if (error instanceof Failure && error.code === 'bad-log') return undefined;
        throw error;
      });
      if (log === undefined) {
        lost = [...before];
        logs = [];
        continue;
      }
      const older = logs.at(-1);
      if (older !== undefined && isWithin(older, log)) await unlink(logs.pop()!.path); // the end of a merge was cut
      logs.push(log);
    }
    if (lost.length > 0) await putAside(layout, lost);
    await syncDirectory(layout.undo);
    for (const [i, log] of logs.entries()) {
      const older = logs[i - 1];
      if (older !== undefined && !sameState(older.follows, log.makes)) throw hole(layout.undo, older, log);
    }
    const newest = logs.at(-1);
    if (newest !== undefined && !sameState(newest.follows, applied)) {
      if (!sameState(newest.makes, applied)) throw astray(newest, applied);
      const undoesPending = pending === 'lost' || (pending !== undefined && sameState(newest.follows, pending));
      // An empty one renames a state (`bridge`); its new name didn't come into force.
      if (!undoesPending && !newest.empty) throw astray(newest, applied);
      if (!undoesPending) await removeDurably(logs.pop()!.path);
    }
    return new UndoChain(layout.undo, logs, lost);
  }

  /** Oldest first. */
  get logs(): readonly UndoLog[] {
    return this.#logs;
  }

  /** Recovery points that they lead back to, newest first. */
  get points(): RecoveryPoint[] {
    return this.reachable.filter(({ sequence }) => !this.#retired.has(sequence));
  }

  /** Those that were given up, too, as long as their logs are here: a wider policy brings them back. */
  get reachable(): RecoveryPoint[] {
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

  /** Takes the newest out: what it undoes has been taken back. */
  async takeBack(newest: UndoLog): Promise<void> {
    this.#logs = this.#logs.filter((log) => log !== newest);
    await removeDurably(newest.path);
  }

  /** Gives up all points but those of these sequences. Undo logs that no kept one needs go. Views keep their descriptors. */
  async keepOnly(kept: ReadonlySet<number>): Promise<void> {
    const wanted = (log: UndoLog) => log.point !== null && kept.has(log.point.sequence);
    const first = this.#logs.findIndex(wanted);
    const gone = first === -1 ? this.#logs : this.#logs.slice(0, first);
    this.#logs = this.#logs.slice(gone.length); // off the list before the first one is damaged
    this.#retired = new Set(this.reachable.map(({ sequence }) => sequence).filter((sequence) => !kept.has(sequence)));
    for (const { path } of gone) {
      // Oldest first, each before the next: what a crash or a power loss leaves is still a chain.
      await removeDurably(path);
      crashPoint('replica:retired');
    }
  }

  /** What they lead back from is lost: all go, for whoever can mend it. Views are closed. */
  async putAllAside(layout: ReplicaLayout): Promise<void> {
    const gone = this.#logs;
    this.#logs = [];
    this.#retired = new Set();
    for (const { path } of gone) {
      await putAside(layout, [basename(path)]);
      await syncDirectory(this.#directory); // oldest first: what a crash or a power loss leaves is still a chain
    }
  }

  /** The next two logs that are worth merging, or undefined. */
  nextMerge(): Mergeable | undefined {
    for (const [i, newer] of this.#logs.entries()) {
      const older = this.#logs[i - 1];
      if (older === undefined || !this.#isUnneeded(newer)) continue;
      // What a disk held beyond its end then is no part of the older point.
      if (!sameShape(older.disks, newer.disks)) continue;
      if (newer.bytes >= older.bytes * MERGE_AT) return { older, newer };
    }
    return undefined;
  }

  /**
   * Puts a merged log, durable in `temporary`, in the place of the two that it was made of; false when one of these has
   * gone meanwhile, and the merged log with it.
   */
  async replace({ older, newer }: Mergeable, merged: UndoLog, temporary: string): Promise<boolean> {
    const at = this.#logs.indexOf(older);
    if (at === -1 || this.#logs[at + 1] !== newer || !this.#isUnneeded(newer)) {
      await unlink(temporary);
      return false;
    }
    await rename(temporary, merged.path);
    await syncDirectory(this.#directory);
    this.#logs = this.#logs.toSpliced(at, 2, merged);
    crashPoint('replica:merge-final');
    await removeDurably(older.path);
    crashPoint('replica:merged');
    return true;
  }

  /**
   * Whether nobody will go back to the state that it makes: a point that was given up, or one between two slices of a copy. The latter not
   * as long as it is the newest log: what it undoes may be taken back, to that very state.
   */
  #isUnneeded(log: UndoLog): boolean {
    return log.point === null ? log !== this.#logs.at(-1) : this.#retired.has(log.point.sequence);
  }
}

/** For whoever can mend them. Those that a merge has left in its result are gone already. */
async function putAside(layout: ReplicaLayout, names: readonly string[]): Promise<void> {
  await makeDirectory(layout.damaged, 0o700);
  for (const name of names) {
    await rename(join(layout.undo, name), join(layout.damaged, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
  await syncDirectory(layout.damaged);
}

/** Whether `log` was merged from `older` and another, so that it says all that `older` says. */
function isWithin(older: UndoLog, log: UndoLog): boolean {
  return sameState(older.makes, log.makes) && older.follows.sequence <= log.follows.sequence;
}

export async function readUndo(path: string): Promise<UndoLog> {
  const reader = await LogReader.open(path);
  try {
    const { header, footer } = reader;
    if (header.direction !== 'undo') throw new Failure('io', `${path} is not an undo log`);
    const { follows, point, disks } = header;
    const { size } = await stat(path);
    return { path, follows, makes: footer.makes, point, disks, empty: footer.frames === 0, bytes: size };
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
