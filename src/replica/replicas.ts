/**
 * All replicas of this host: one directory each, named by relationship.
 */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lanes } from '../lanes/lanes.ts';
import { makeDirectory } from '../lib/atomic-file.ts';
import type { Log } from '../lib/log.ts';
import { asFailure, Failure } from '../model/failure.ts';
import type { LocalDisk } from '../store/store.ts';
import { removeReplica, type NewReplica } from './create.ts';
import { Replica } from './replica.ts';
import type { RoomPolicy } from './room.ts';

export interface ReplicasOptions {
  readonly directory: string;
  /** Each replica gets a directory below it for its sockets. */
  readonly runDirectory: string;
  /** Where the bulk work is done. */
  readonly lanes: Lanes;
  /** zstd level of undo logs, 0: as they are; 1 unless told. */
  readonly undoLevel?: number;
  /** What is done about a file system without room; see `Room`. */
  readonly room?: RoomPolicy;
  readonly log: Log;
  /** Told of a recovery point that was given up for want of room. */
  readonly onGivenUp?: (id: string, sequence: number) => void;
  readonly onReshaped?: (id: string, disks: readonly LocalDisk[]) => void;
  /** Told when a replica can't apply what it has received, and null when it goes on. */
  readonly onFailure?: (id: string, failure: Failure | null) => void;
  /** Told of damage that was found in a replica, in words. */
  readonly onDamage?: (id: string, text: string) => void;
}

export class Replicas {
  readonly #options: ReplicasOptions;
  readonly #open = new Map<string, Replica>();
  readonly #broken = new Map<string, Failure>();

  private constructor(options: ReplicasOptions) {
    this.#options = options;
  }

  /** Opens all that are there. One that can't be opened doesn't keep the others from it: see `broken`. */
  static async open(options: ReplicasOptions): Promise<Replicas> {
    const replicas = new Replicas(options);
    await makeDirectory(options.directory, 0o711);
    await mkdir(options.runDirectory, { recursive: true, mode: 0o711 });
    await replicas.look();
    return replicas;
  }

  /** Opens those that aren't open: they may have been restored, or mended, since. */
  async look(): Promise<void> {
    for (const entry of await readdir(this.#options.directory, { withFileTypes: true })) {
      if (entry.isDirectory() && !this.#open.has(entry.name)) await this.#tryOpen(entry.name);
    }
  }

  /** Replicas that couldn't be opened, by id, and why. */
  get broken(): ReadonlyMap<string, Failure> {
    return this.#broken;
  }

  all(): Replica[] {
    return [...this.#open.values()];
  }

  find(id: string): Replica | undefined {
    return this.#open.get(id);
  }

  /** Failures: `not-found`; for one that couldn't be opened, why. */
  get(id: string): Replica {
    const replica = this.#open.get(id);
    if (replica !== undefined) return replica;
    throw this.#broken.get(id) ?? new Failure('not-found', `this host has no replica of relationship ${id}`);
  }

  async create(replica: NewReplica): Promise<Replica> {
    const broken = this.#broken.get(replica.id);
    if (broken !== undefined) throw broken;
    const created = await Replica.create(this.#replicaOptions(replica.id), replica);
    this.#open.set(replica.id, created);
    return created;
  }

  /** Also one that can't be opened, and what a crash left of an earlier try. None there is no error. */
  async remove(id: string, options: { keepDisks: boolean }): Promise<void> {
    const replica = this.#open.get(id);
    this.#open.delete(id);
    if (replica === undefined) await removeReplica(this.#replicaOptions(id).directory, options);
    else await replica.remove(options);
    this.#broken.delete(id);
  }

  async close(): Promise<void> {
    await Promise.all(this.all().map((replica) => replica.close()));
    this.#open.clear();
  }

  async #tryOpen(id: string): Promise<void> {
    const directory = join(this.#options.directory, id);
    // Without a record it is no replica: disks that somebody kept, or a creation that didn't come to its end.
    if (!(await readdir(directory)).includes('replica.json')) return;
    try {
      this.#open.set(id, await Replica.open(this.#replicaOptions(id)));
      this.#broken.delete(id);
    } catch (error) {
      const failure = asFailure(error, 'io');
      this.#broken.set(id, failure);
      this.#options.log.error({ err: failure, id }, 'a replica could not be opened');
    }
  }

  #replicaOptions(id: string) {
    const { directory, runDirectory, lanes, undoLevel, room, log, onGivenUp, onReshaped, onFailure, onDamage } =
      this.#options;
    return {
      directory: join(directory, id),
      runDirectory: join(runDirectory, id),
      lanes,
      ...(undoLevel === undefined ? {} : { undoLevel }),
      ...(room === undefined ? {} : { room }),
      onGivenUp: (sequence: number) => onGivenUp?.(id, sequence),
      onReshaped: (disks: readonly LocalDisk[]) => onReshaped?.(id, disks),
      log: log.child({ replica: id }),
      onFailure: (failure: Failure | null) => onFailure?.(id, failure),
      onDamage: (text: string) => onDamage?.(id, text),
    };
  }
}
