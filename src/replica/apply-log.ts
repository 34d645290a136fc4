/**
 * Applies one log, in as many lanes as it is worth. Each takes items of it; where an order has to be kept they wait for each
 * other: the undo log is whole, durable and published before the first of them writes to a disk.
 */
import { changedBytesOf } from '../deltalog/header.ts';
import { LogReader } from '../deltalog/reader.ts';
import type { WrittenSegment } from '../deltalog/segment.ts';
import { workerModule, type Lanes } from '../lanes/lanes.ts';
import { crashPoint } from '../lib/crash-point.ts';
import type { NbdAddress } from '../qemu/nbd/client.ts';
import type { DigestRun } from '../digests/digest-pages.ts';
import { ITEM_BYTES, type Arrival, type Item, type SentRun, type Share, type ShareDigests } from './log-share.ts';
import { Meeting } from './meeting.ts';
import type { UndoLog } from './undo-chain.ts';
import { UndoDraft, type UndoRequest } from './undo.ts';

const TASK = { module: workerModule(import.meta.url, './apply'), name: 'applyShare' };

export interface LogToApply {
  readonly lanes: Lanes;
  /** Path of the received log. */
  readonly path: string;
  /** The disks as the storage daemon exports them, by index. */
  readonly disks: readonly NbdAddress[];
  /** What the disks lose by it besides what its frames say (shape.ts). */
  readonly tails?: readonly Item[];
  /** The undo log to be made first, and who takes it in before a disk is written; undefined: none, or it is there. */
  readonly undo:
    | { readonly request: UndoRequest; readonly level: number; readonly publish: (undo: UndoLog) => Promise<void> }
    | undefined;
}

/** Gives the digests of all blocks that were written, by disk. The disks aren't flushed. */
export async function applyLog({ lanes, path, disks, undo, tails = [] }: LogToApply): Promise<DigestRun[][]> {
  const count = Math.min(lanes.count, await worth(path));
  const draft = undo === undefined ? undefined : await UndoDraft.begin(undo.request);
  let final = false;
  const undone = new Meeting<readonly WrittenSegment[]>(count, async (segments) => {
    const log = await draft!.finish(segments.flat());
    final = true;
    await undo!.publish(log);
  });
  const sourced = new Meeting<undefined>(count, async () => crashPoint('replica:sourced'));
  const written = new Meeting<undefined>(count, async () => crashPoint('replica:written'));
  const share: Share = {
    log: path,
    disks,
    undo: draft === undefined ? null : { ...draft.target, level: undo!.level },
    tails,
    taken: new SharedArrayBuffer(4),
  };
  const stop = new AbortController();
  const onAsked = (question: unknown): Promise<void> => {
    const arrival = question as Arrival;
    if (arrival.at === 'undone') return undone.arrive(arrival.segments);
    return (arrival.at === 'sourced' ? sourced : written).arrive(undefined);
  };
  let failure: { error: unknown } | undefined;
  const runs = Array.from({ length: count }, () =>
    lanes.run<ShareDigests>(TASK, share, { signal: stop.signal, onAsked }).catch((error: unknown) => {
      failure ??= { error };
      // The others would wait for it.
      for (const meeting of [undone, sourced, written]) meeting.cancel(error);
      stop.abort(error);
      return [];
    }),
  );
  // All have ended before it may be done again.
  const digests = await Promise.all(runs);
  if (failure !== undefined) {
    if (!final) await draft?.abandon();
    throw failure.error;
  }
  return disks.map((_, disk) => digests.flatMap((share) => (share[disk] ?? []).map(received)));
}

function received({ from, digests }: SentRun): DigestRun {
  return { from, digests: Buffer.from(digests.buffer, digests.byteOffset, digests.byteLength) };
}

/** Lanes for which there is work. */
async function worth(path: string): Promise<number> {
  const reader = await LogReader.open(path);
  await reader.close();
  const bytes = changedBytesOf(reader.footer);
  return Math.max(1, Math.min(reader.footer.frames, Math.ceil(bytes / ITEM_BYTES)));
}
