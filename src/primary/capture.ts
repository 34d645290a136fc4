/**
 * Reads what changed at an open point into a delta log, at local speed: in several lanes, where it is much.
 */
import type { WrittenSegment } from '../deltalog/segment.ts';
import type { Point, PointExport } from '../hypervisor/hypervisor.ts';
import { sleep } from '../lib/clock.ts';
import { workerModule, type Lanes } from '../lanes/lanes.ts';
import type { ChangedExtent } from '../model/extent.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { allExtents, dirtyExtents, withHoles } from '../qemu/disk.ts';
import { BASE_ALLOCATION } from '../qemu/nbd/wire.ts';
import { NbdClient } from '../qemu/nbd/client.ts';
import type { CaptureInput, Found } from './capture.worker.ts';
import type { KnownPages, LearnedOfDisks } from './known-blocks.ts';
import type { GrowingLog } from './outbox.ts';
import { Twins } from './twins.ts';
import { lanesFor, type Work } from './work.ts';

const CAPTURE = { module: workerModule(import.meta.url, './capture'), name: 'capture' };

/** What was found out by all lanes; see `Found`. */
export interface Packed extends Pick<Found, 'compared' | 'different' | 'sameBytes'> {
  readonly learned: LearnedOfDisks;
}

export interface PackOptions {
  readonly lanes: Lanes;
  /** About how much data there is, bytes: little isn't worth several lanes. */
  readonly bytes: number;
  /** zstd level now, shared with whoever changes it; see `CaptureInput`. */
  readonly level: SharedArrayBuffer;
  /** What the replica is known to have, by disk. */
  readonly known: readonly (KnownPages | undefined)[];
  readonly signal: AbortSignal;
  /** Gives the ms to wait before an item may be read. */
  readonly pace: (work: Work) => number;
  /** Called each time that the log has grown; what it throws ends the reading. */
  readonly onGrown: () => void;
}

/**
 * The changed extents of every disk of a point, by index in `disks` (those that are gone have none), and the way to read them. What is dirty is asked for on a
 * connection of its own: an answer carries all contexts of its connection, and for what is allocated QEMU walks through the tables of
 * the whole disk. That is asked for only where something is dirty, so that an idle cycle costs a terabyte next to nothing.
 */
export class PointReader implements AsyncDisposable {
  readonly #exports: readonly (PointExport | undefined)[];
  /** Connections by disk and meta context, opened when they are asked for. */
  readonly #clients = new Map<string, Promise<NbdClient>>();

  constructor(point: Point, disks: readonly ReplicatedDisk[]) {
    this.#exports = disks.map(({ target }) => point.exports.find((candidate) => candidate.target === target));
  }

  size(disk: number): number {
    return this.#exports[disk]!.size;
  }

  /** What is dirty on a disk within [from, to), with what of it reads as zeros; all of it where nothing is known of what is dirty. */
  async changed(disk: number, from: number, to: number): Promise<ChangedExtent[]> {
    const { dirtyContext } = this.#exports[disk]!;
    if (dirtyContext === null) return await this.all(disk, from, to);
    const dirty = await dirtyExtents(await this.#client(disk, dirtyContext), dirtyContext, from, to);
    return dirty.length === 0 ? [] : await withHoles(await this.#client(disk, BASE_ALLOCATION), dirty);
  }

  /** All of [from, to) of a disk, with what of it reads as zeros. */
  async all(disk: number, from: number, to: number): Promise<ChangedExtent[]> {
    return await allExtents(await this.#client(disk, BASE_ALLOCATION), from, to);
  }

  /**
   * Writes what the items tell of into the log, in lanes that pull them one after the other. Once it has ended, whatever its end, nobody
   * writes into the log any more.
   */
  async pack(items: Iterator<Work>, log: GrowingLog, options: PackOptions): Promise<Packed> {
    const { lanes, bytes, level, known, signal, pace, onGrown } = options;
    const failed = new AbortController();
    const exports = this.#exports.map((one) => one && { socketPath: one.socketPath, exportName: one.exportName });
    const input: CaptureInput = {
      exports,
      path: log.path,
      place: log.place,
      level,
      known,
      twins: Twins.memoryFor(bytes),
    };
    const ended = AbortSignal.any([signal, failed.signal]);
    const next = async (): Promise<Work | null> => {
      const { value, done } = items.next();
      if (done === true) return null;
      const wait = pace(value);
      if (wait > 0) await sleep(wait, ended);
      return value;
    };
    const run = async (): Promise<Found> => {
      try {
        return await lanes.run<Found>(CAPTURE, input, {
          signal: ended,
          onAsked: next,
          onTold: (segment) => {
            try {
              log.add(segment as WrittenSegment);
              onGrown();
            } catch (error) {
              failed.abort(error);
            }
          },
        });
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    };
    const ends = await Promise.allSettled(Array.from({ length: lanesFor(lanes.count, bytes) }, run));
    signal.throwIfAborted();
    failed.signal.throwIfAborted();
    return together(ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []))); // else thrown above
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connecting = await Promise.allSettled(this.#clients.values());
    await Promise.all(connecting.flatMap((end) => (end.status === 'fulfilled' ? [end.value.close()] : [])));
  }

  #client(disk: number, context: string): Promise<NbdClient> {
    const key = `${disk} ${context}`;
    const { socketPath, exportName } = this.#exports[disk]!;
    const connecting = this.#clients.get(key) ?? NbdClient.connect({ socketPath, exportName, metaContexts: [context] });
    this.#clients.set(key, connecting);
    return connecting;
  }
}

function together(lanes: readonly Found[]): Packed {
  const sum = (count: (found: Found) => number) => lanes.reduce((total, found) => total + count(found), 0);
  const disks = Math.max(0, ...lanes.map(({ learned }) => learned.length));
  return {
    compared: sum(({ compared }) => compared),
    different: sum(({ different }) => different),
    sameBytes: sum(({ sameBytes }) => sameBytes),
    learned: Array.from({ length: disks }, (_, disk) => lanes.flatMap(({ learned }) => learned[disk] ?? [])),
  };
}
