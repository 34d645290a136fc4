/**
 * The undo log of a received log, as it is being made from the untouched disks: what they hold wherever the log will write. It is
 * whole and durable, for all disks, before anybody writes to any of them. Lanes write its segments (before-images.ts).
 */
import { randomBytes } from 'node:crypto';
import { rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { WRITER, type LogFooter, type LogHeader } from '../deltalog/header.ts';
import type { WrittenSegment } from '../deltalog/segment.ts';
import { SegmentedLog } from '../deltalog/segmented-log.ts';
import { syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import type { Position, RecoveryPoint, ReplicatedDisk } from '../model/relationship.ts';
import { shapeOf } from '../model/shape.ts';
import type { UndoLog } from './undo-chain.ts';

/** zstd level of undo logs, unless this host is told to pack nothing. */
export const COMPRESSION = 1;

export interface UndoRequest {
  readonly path: string;
  readonly relationship: string;
  readonly disks: readonly ReplicatedDisk[];
  /** The state from which it leads back. */
  readonly follows: Position;
  /** The state that the disks hold now. */
  readonly makes: Position;
  readonly point: RecoveryPoint | null;
}

export class UndoDraft {
  readonly #request: UndoRequest;
  readonly #log: SegmentedLog;

  private constructor(request: UndoRequest, log: SegmentedLog) {
    this.#request = request;
    this.#log = log;
  }

  static async begin(request: UndoRequest): Promise<UndoDraft> {
    const { path, relationship, follows, makes, point } = request;
    const header: LogHeader = {
      writer: WRITER,
      relationship,
      logId: randomBytes(16).toString('hex'),
      direction: 'undo',
      disks: shapeOf(request.disks),
      follows,
      sequence: makes.sequence,
      epoch: makes.epoch,
      point,
      created: Date.now(),
    };
    return new UndoDraft(request, await SegmentedLog.create(`${path}.tmp`, header));
  }

  /** The file that lanes write to, and where the next segment goes. */
  get target(): { readonly path: string; readonly place: SharedArrayBuffer; readonly sizes: readonly number[] } {
    return { path: this.#log.path, place: this.#log.place, sizes: this.#request.disks.map(({ size }) => size) };
  }

  /** All segments are in the file. Durable and final when it resolves; without segments both states hold the same. */
  async finish(segments: readonly WrittenSegment[]): Promise<UndoLog> {
    const { path, follows, makes, point, disks } = this.#request;
    for (const segment of segments) this.#log.add(segment);
    crashPoint('replica:undo-written');
    const footer: LogFooter = await this.#log.finish({ makes, durable: true });
    crashPoint('replica:undo-durable');
    await rename(this.#log.path, path);
    await syncDirectory(dirname(path));
    crashPoint('replica:undo-final');
    return { path, follows, makes, point, disks, empty: footer.frames === 0, bytes: this.#log.written };
  }

  /** What was written is of no use, and the room may be needed. Nobody writes to it any more. */
  async abandon(): Promise<void> {
    await Promise.allSettled([this.#log.abandon(), unlink(this.#log.path)]);
  }
}

/** From a state to another name of it. */
export async function recordSameState(request: UndoRequest): Promise<UndoLog> {
  return await (await UndoDraft.begin(request)).finish([]);
}
