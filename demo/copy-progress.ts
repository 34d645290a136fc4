/** An initial copy or a comparison, shown until it is complete. */
import { bytes, duration, progressBar } from '../src/cli/words.ts';
import type { HostDaemon } from '../lab/daemons/host-daemon.ts';
import { VM, type Scene } from './scene.ts';

/** Waits until `Replicating`, and the cycle that closed the copy is counted. @param began as of performance.now() */
export async function followCopy({ screen }: Scene, daemon: HostDaemon, began: number) {
  let blocksCompared = 0;
  let blocksDifferent = 0;
  const { statistics } = await daemon.waitFor(
    VM,
    'replicating',
    ({ copy, state, inFlight, statistics: counted }) => {
      if (copy !== null) {
        ({ blocksCompared, blocksDifferent } = copy);
        const blocks = copy.mode === 'compare' ? `, ${blocksDifferent} of ${blocksCompared} blocks differ` : '';
        const done = `${bytes(copy.bytesDone)} of ${bytes(copy.bytesTotal)}${blocks}`;
        screen.progress(
          `${progressBar(copy.bytesDone, copy.bytesTotal, 24)} ${done}, ${speed(counted.sentBytes + (inFlight?.sentBytes ?? 0), began)}`,
        );
      }
      return state === 'Replicating' && counted.cycles + counted.idleCycles > 0;
    },
    120_000,
  );
  const ms = performance.now() - began;
  screen.note(
    `${progressBar(1, 1, 24)} ${bytes(statistics.sentBytes)} sent in ${duration(ms)}, ${speed(statistics.sentBytes, began)}`,
  );
  return { statistics, blocksCompared, blocksDifferent };
}

function speed(sent: number, began: number): string {
  return `${(sent / 1000 / Math.max(1, performance.now() - began)).toFixed(1)} MB/s`;
}
