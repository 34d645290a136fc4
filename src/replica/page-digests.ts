/** Answers a primary that asks which pages of its dirty blocks the replica has already. */
import { workerModule, type Lanes } from '../lanes/lanes.ts';
import { totalLength, type Extent } from '../model/extent.ts';
import { Failure } from '../model/failure.ts';
import { samePosition, type Position, type ReplicatedDisk } from '../model/relationship.ts';
import { MAX_PAGES, type PageQuestion } from '../protocol/endpoint.ts';
import { PAGE } from '../protocol/page-digest.ts';
import type { NbdAddress } from '../qemu/nbd/client.ts';
import { describe, notFollowing } from './admission.ts';

const TASK = { module: workerModule(import.meta.url, './page-digests'), name: 'pageDigestsOf' };

export interface PagesToRead {
  /** The disk as the storage daemon exports it. */
  readonly address: NbdAddress;
  /** 32 hex digits. */
  readonly salt: string;
  /** Checked by `checkQuestion`. */
  readonly runs: readonly Extent[];
}

/** Throws `not-following` unless the question is about the state `applied`, `bad-request` unless about whole pages of that disk. */
export function checkQuestion({ position, runs }: PageQuestion, applied: Position, { size }: ReplicatedDisk): void {
  if (!samePosition(position, applied)) {
    throw notFollowing('other state', `pages of ${describe(position)} were asked for`, applied);
  }
  let at = 0;
  for (const { offset, length } of runs) {
    const end = offset + length;
    const whole = offset % PAGE === 0 && (length % PAGE === 0 || end === size);
    if (!whole || length < 1 || offset < at || end > size) {
      throw new Failure('bad-request', `bytes ${offset} to ${end} are no pages of a disk of ${size} bytes, in order`);
    }
    at = end;
  }
  if (totalLength(runs) > MAX_PAGES * PAGE) throw new Failure('bad-request', `more than ${MAX_PAGES} pages at once`);
}

/** Reads them from the disk, in a lane: what is known of whole blocks is no help here. */
export async function readPageDigests(lanes: Lanes, pages: PagesToRead, signal?: AbortSignal): Promise<Uint8Array> {
  return await lanes.run<Uint8Array>(TASK, pages, signal === undefined ? {} : { signal });
}
