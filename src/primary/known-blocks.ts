/**
 * What the replica is known to have, block by block: in a digest file (`digests/digest-file.ts`) for each disk, fed by what is read
 * for the logs anyway. A block that was written again with the same bytes needn't travel.
 *
 * A file says: at position P the replica's blocks have these digests. So it is believed only while the record stands at P, in P's
 * epoch. On the way to the next position nothing in it may become untrue, whenever the daemon dies:
 *
 * 1. log whole → `expect`: what is in it counts as unknown; only then: true at P *and* at what the log makes;
 * 2. acknowledged, the position stored → `reached`: true at the new position; only then the new digests.
 *
 * Nothing is synced for that: a write that a process has made outlives it, and what was written before a power loss isn't believed,
 * unless the file was closed (and synced) in order. These files are hints: whatever goes wrong with one costs sending what the
 * replica has.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { positionSchema } from '../deltalog/header.ts';
import { DigestFile, type Subject } from '../digests/digest-file.ts';
import type { BlockRange } from '../digests/digest-pages.ts';
import { bootId } from '../lib/boot-clock.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { DIGEST_SIZE } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { asFailure } from '../model/failure.ts';
import { samePosition, type Position, type ReplicatedDisk } from '../model/relationship.ts';
import { rangesOf, runsOf, type Learned } from './learned.ts';

const aboutSchema = z.strictObject({
  /** The machine's boot in which it is written; null: synced and closed. */
  boot: z.string().nullable(),
  /** The primary's. */
  epoch: z.number(),
  position: positionSchema,
  /** True there as well: what the log on its way makes. */
  next: positionSchema.nullable(),
});
type About = z.infer<typeof aboutSchema>;
type KnownFile = DigestFile<About>;

/** Where the primary stands. */
export interface Standing {
  readonly epoch: number;
  readonly position: Position;
}

/** For a lane, to look into: see `DigestPages`. Plain data. */
export interface KnownPages {
  readonly path: string;
  readonly id: string;
}

/** What lanes have learned, by disk. */
export type LearnedOfDisks = readonly (readonly Learned[])[];

export class KnownBlocks {
  readonly #directory: string;
  readonly #log: Log;
  /** By disk; undefined where there is none that can be used. */
  #files: (KnownFile | undefined)[] = [];
  #expected: { readonly makes: Position; readonly learned: LearnedOfDisks } | undefined;

  constructor(directory: string, log: Log) {
    this.#directory = directory;
    this.#log = log;
  }

  /** Opens what is known where the primary stands; by disk, undefined where it can't be kept. */
  async at(standing: Standing, disks: readonly ReplicatedDisk[]): Promise<(KnownPages | undefined)[]> {
    for (const [i, { target, size, gone }] of disks.entries()) {
      const path = this.#path(target);
      const file = this.#files[i];
      if (gone === true) {
        // It stands still while the others move on, and isn't believed should the disk come back.
        this.#files[i] = undefined;
        await file?.close();
        continue;
      }
      if (file?.path === path && isAbout(file.about, standing)) continue;
      this.#files[i] = undefined;
      try {
        await mkdir(this.#directory, { recursive: true, mode: 0o700 });
        await file?.close();
        this.#files[i] = await DigestFile.open(path, { size }, subjectOf(standing));
      } catch (error) {
        this.#log.warn({ err: asFailure(error, 'io'), disk: target }, 'what the replica has of a disk can not be kept');
      }
    }
    return this.#files.map((file) => (file === undefined ? undefined : { path: file.path, id: file.id }));
  }

  /** A log that follows where the files stand is whole, and will make `makes` of what was learned. */
  async expect(makes: Position, learned: LearnedOfDisks): Promise<void> {
    this.#expected = { makes, learned };
    await this.#each(async (file, disk) => {
      for (const one of learned[disk] ?? []) await file.forget(rangesOf(one));
      crashPoint('known:forgotten');
      await file.describe({ ...file.about, next: makes });
    });
  }

  /** Another log, from the same position to the same contents, takes the place of the one that is expected. */
  async instead(makes: Position): Promise<void> {
    if (this.#expected !== undefined) this.#expected = { ...this.#expected, makes };
    await this.#each(async (file) => {
      if (file.about.next !== null) await file.describe({ ...file.about, next: makes });
    });
  }

  /** The replica stands there, and that is remembered. */
  async reached(makes: Position): Promise<void> {
    const expected = this.#expected;
    this.#expected = undefined;
    await this.#each(async (file, disk) => {
      const { next } = file.about;
      if (next === null || !samePosition(next, makes)) return; // not believed any more: begins anew
      await file.describe({ ...file.about, position: makes, next: null });
      crashPoint('known:reached');
      if (expected === undefined || !samePosition(expected.makes, makes)) return; // a former run's log
      for (const one of expected.learned[disk] ?? []) {
        await file.write(runsOf(one.sent));
        await file.write(runsOf(one.same));
      }
    });
  }

  /** From now on nothing is known of these blocks, by disk. */
  async forgetBlocks(ranges: readonly (readonly BlockRange[])[]): Promise<void> {
    await this.#each((file, disk) => file.forget(ranges[disk] ?? []));
  }

  /** What the replica is known to have where the files stand; zeros where nothing is known. */
  async read(disk: number, from: number, count: number): Promise<Buffer> {
    const file = this.#files[disk];
    return file === undefined ? Buffer.alloc(count * DIGEST_SIZE) : await file.read(from, count);
  }

  /** The replica was found to have these already, where the files stand; none was sent. */
  async note(learned: LearnedOfDisks): Promise<void> {
    await this.#each(async (file, disk) => {
      await file.describe({ ...file.about, next: null });
      for (const one of learned[disk] ?? []) await file.write(runsOf(one.same));
    });
  }

  /** Ends in order: what is known outlives a restart of the host. */
  async close(): Promise<void> {
    await this.#each(async (file) => {
      await file.sync();
      await file.describe({ ...file.about, boot: null });
      await file.sync();
    });
    await this.#closeAll();
  }

  /** Nothing is known any more. */
  async forget(): Promise<void> {
    await this.#closeAll();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #closeAll(): Promise<void> {
    const files = this.#files;
    this.#files = [];
    this.#expected = undefined;
    for (const file of files) await file?.close();
  }

  #path(target: string): string {
    return join(this.#directory, `${target}.digests`);
  }

  /** What can't be kept is given up, all of it. Throws if not even that is possible: it would be believed later. */
  async #each(work: (file: KnownFile, disk: number) => Promise<void>): Promise<void> {
    for (const [disk, file] of this.#files.entries()) {
      if (file === undefined) continue;
      try {
        await work(file, disk);
      } catch (error) {
        this.#log.warn({ err: asFailure(error, 'io'), path: file.path }, 'what the replica has of a disk is given up');
        this.#files[disk] = undefined;
        await file.discard();
      }
    }
  }
}

function isAbout(about: About, { epoch, position }: Standing): boolean {
  return about.epoch === epoch && samePosition(about.position, position);
}

function subjectOf({ epoch, position }: Standing): Subject<About> {
  const boot = bootId();
  return {
    schema: aboutSchema,
    believes: (found) =>
      (found.boot === null || found.boot === boot) &&
      (isAbout(found, { epoch, position }) ||
        (found.epoch === epoch && found.next !== null && samePosition(found.next, position))),
    opened: () => ({ boot, epoch, position, next: null }),
  };
}
