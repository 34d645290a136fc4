/** A replica with a history: so many recovery points, each of a few changes all over the disk. */
import { MIB } from '../images/corpus.ts';
import { realistic, scattered, write } from '../images/change.ts';
import type { Bench } from '../part.ts';
import type { Pair } from './pair.ts';

/** Makes `count` points, each of `bytes` in 4 runs at other places. */
export async function makePoints(
  { corpus, say }: Bench,
  pair: Pair,
  vm: string,
  points: { count: number; bytes: number; diskBytes: number },
): Promise<void> {
  const { count, bytes, diskBytes } = points;
  const started = performance.now();
  const places = scattered(diskBytes, bytes * 61, 4 * 61); // 61 sets of places in turn
  await pair.hold(vm);
  const disk = await pair.disk(vm);
  for (let round = 0; round < count; round++) {
    const runs = places.filter((_, index) => index % 61 === round % 61);
    await write(disk, runs, realistic(corpus), round);
    await pair.advance(vm);
  }
  await disk.close();
  const seconds = (performance.now() - started) / 1000;
  say(`${count} points of ${(bytes / MIB).toFixed(1)} MiB made in ${seconds.toFixed(0)} s`);
}
