/**
 * Puts a recovery point into overlays on the flat disks: each holds exactly the blocks by which the point differs. The flat
 * disks must be released by everybody who writes to them, and stay so as long as the overlays are used.
 */
import { chmod } from 'node:fs/promises';
import { FrameKind } from '../deltalog/frame.ts';
import { LogReader } from '../deltalog/reader.ts';
import { crashPoint } from '../lib/crash-point.ts';
import type { Log } from '../lib/log.ts';
import { Failure } from '../model/failure.ts';
import { createImage } from '../qemu/image.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import type { LocalDisk } from '../store/store.ts';
import { DiskEngine } from './engine.ts';
import { ExtentIndex, type IndexedRun } from './extent-index.ts';
import type { UndoLog } from './undo-chain.ts';
import { runsOf, type UndoSource } from './undo-source.ts';

const IN_FLIGHT = 8;

export interface MaterialiseRequest {
  /** As the logs count them. */
  readonly disks: readonly LocalDisk[];
  /** Path of the overlay to be made, by target, for every disk that the point has. */
  readonly overlays: ReadonlyMap<string, string>;
  /** The undo logs that lead back to the point, oldest first; none for the latest state. */
  readonly logs: readonly UndoLog[];
  readonly runDirectory: string;
  readonly log: Log;
}

/** Durable when it resolves. An overlay that exists is refused with `already-exists`. */
export async function materialise(request: MaterialiseRequest): Promise<void> {
  const { disks, overlays, logs, runDirectory, log } = request;
  const images = disks.flatMap(({ target, size, path: backing, gone }, disk) => {
    if (gone === true) return [];
    const path = overlays.get(target);
    if (path === undefined) throw new Failure('bad-request', `no overlay is named for disk ${target}`);
    return [{ disk, target, size, path, backing }];
  });
  for (const { path, size, backing } of images) {
    await createImage(path, size, { format: 'qcow2', backing: { path: backing, format: 'qcow2' } });
    await chmod(path, 0o600);
    crashPoint('replica:overlay-made');
  }
  if (logs.length === 0) return;
  const engine = new DiskEngine({ runDirectory, name: 'materialise', disks: images, log });
  const readers: LogReader[] = [];
  try {
    const indexes = images.map(() => new ExtentIndex<UndoSource>());
    for (const { path } of logs) {
      const reader = await LogReader.open(path);
      readers.push(reader);
      const frames = await reader.index();
      for (const [i, { disk, size }] of images.entries()) indexes[i]!.add(runsOf(reader, frames, disk, size));
    }
    const { apply } = await engine.connections();
    for (const [i, { runs }] of indexes.entries()) await writeRuns(apply[i]!, runs);
    crashPoint('replica:overlays-written');
    for (const client of apply) await client.flush();
  } finally {
    await engine.stop();
    for (const reader of readers) await reader.close();
  }
  crashPoint('replica:materialised');
}

async function writeRuns(client: NbdClient, runs: readonly IndexedRun<UndoSource>[]): Promise<void> {
  const next = runs.values();
  const worker = async (): Promise<void> => {
    for (const run of next) {
      await writeRun(client, run);
      crashPoint('replica:materialising');
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: IN_FLIGHT }, worker));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

async function writeRun(client: NbdClient, run: IndexedRun<UndoSource>): Promise<void> {
  const { reader, frame } = run.source;
  if (frame.kind === FrameKind.zero) {
    // Kept as zeros of the overlay: what the disk beneath holds must not shine through.
    await client.writeZeroes(run.offset, run.length, { mayUnmap: true });
    return;
  }
  const data = await reader.data(frame);
  const from = run.offset - frame.offset;
  await client.write(run.offset, data.subarray(from, from + run.length));
}
