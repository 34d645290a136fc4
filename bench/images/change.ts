/** What a guest writes between two cycles: where, and what. */
import type { NbdClient } from '../../src/qemu/nbd/client.ts';
import { KIB, MIB, type Corpus } from './corpus.ts';
import { fillRandom, seeded } from './random.ts';

export interface Run {
  readonly offset: number;
  readonly length: number;
}

/** Fills a buffer with what is written at `position` of a change, in round `round`: other bytes in each round. */
export type Content = (target: Uint8Array, position: number, round: number) => void;

/** Files of a real system; each round other ones. */
export function realistic(corpus: Corpus): Content {
  return (target, position, round) => corpus.fill(target, position + (round + 1) * 173 * MIB);
}

/** What can't be packed. */
export const incompressible: Content = (target, position, round) =>
  fillRandom(target, position + (round + 2) * 2 ** 40);

/** A change of `bytes` whose second half is the same as its first. */
export function twice(content: Content, bytes: number): Content {
  return (target, position, round) => content(target, position % (bytes / 2), round);
}

/** `bytes` in `count` runs of equal length, on whole clusters, spread over a disk; the same for the same arguments. */
export function scattered(diskBytes: number, bytes: number, count: number): Run[] {
  const cluster = 64 * KIB;
  const length = Math.max(cluster, Math.round(bytes / count / cluster) * cluster);
  const slots = Math.floor(diskBytes / length);
  const next = seeded(count);
  const taken = new Set<number>();
  while (taken.size < Math.min(count, slots)) taken.add(next(slots));
  return [...taken].toSorted((a, b) => a - b).map((slot) => ({ offset: slot * length, length }));
}

/** `count` pages of 4 KiB, each in a cluster of its own: what a database does to a disk. */
export function pages(diskBytes: number, count: number): Run[] {
  const next = seeded(count);
  return scattered(diskBytes, count * 64 * KIB, count).map(({ offset }) => ({
    offset: offset + next(16) * 4 * KIB,
    length: 4 * KIB,
  }));
}

export const totalOf = (runs: readonly Run[]): number => runs.reduce((sum, { length }) => sum + length, 0);

/** Writes a change as a guest does, up to 1 MiB at a time, and flushes. */
export async function write(disk: NbdClient, runs: readonly Run[], content: Content, round: number): Promise<void> {
  const lanes = 4;
  const queue = pieces(runs);
  const lane = async (): Promise<void> => {
    for (let next = queue.next(); !next.done; next = queue.next()) {
      const { offset, length, position } = next.value;
      const bytes = Buffer.allocUnsafe(length);
      content(bytes, position, round);
      await disk.write(offset, bytes);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  await disk.flush();
}

function* pieces(runs: readonly Run[]): Generator<Run & { position: number }, undefined> {
  let position = 0;
  for (const { offset, length } of runs) {
    for (let done = 0; done < length; done += MIB) {
      const part = Math.min(MIB, length - done);
      yield { offset: offset + done, length: part, position };
      position += part;
    }
  }
}
