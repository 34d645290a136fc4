/** How long the backup job is open, and that a slow link changes nothing about it. */
import { rmSync, openSync, writeSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { GIB, MIB } from '../images/corpus.ts';
import { realistic } from '../images/change.ts';
import { mbit, NO_LIMIT } from '../link/link.ts';
import { alternate, type Contestant } from '../measure/samples.ts';
import { atMost, type Bench, type Part } from '../part.ts';
import { runMeasured } from '../peers/programs.ts';
import { Pair } from '../rig/pair.ts';
import { amount } from '../rows.ts';

const VM = 'vm';
const SLOW = { ...NO_LIMIT, bytesPerSecond: mbit(10) };

export const job: Part = {
  name: 'job',
  title: 'How long the backup job is open',
  async run(bench) {
    const { place, full, rounds, say } = bench;
    const bytes = full ? GIB : 128 * MIB;
    const opening = Pair.open(place, {
      name: 'job',
      vms: { [VM]: { history: 1 } },
      diskBytes: 2 * bytes,
      link: NO_LIMIT,
    });
    const samples = await place.with(opening, async (pair) => {
      await pair.establish();
      return await alternate(
        [ours(bench, pair, bytes, 'fast'), ours(bench, pair, bytes, 'slow'), packer(bench, bytes)],
        rounds,
        say,
      );
    });
    const of = (name: string) => samples.get(name)!.map(({ seconds }) => seconds);
    const what = `${bytes / MIB} MiB changed`;
    return [
      amount(what, 's', of('fast'), {
        peer: { name: 'zstd -1 -T2 of the same', values: of('zstd') },
        target: atMost('ratio', 1.3),
      }),
      amount(`${what}, 10 Mbit/s`, 's', of('slow'), {
        peer: { name: 'ours, fast link', values: of('fast') },
        target: atMost('ratio', 1.1),
      }),
    ];
  },
};

/** Seconds are from the cycle's beginning until its log is read whole. */
function ours({ corpus }: Bench, pair: Pair, bytes: number, link: 'fast' | 'slow'): Contestant {
  return {
    name: link,
    prepare: async (round) => {
      await pair.link.set(NO_LIMIT);
      await pair.change(VM, [{ offset: 0, length: bytes }], realistic(corpus), round + (link === 'slow' ? 0.5 : 0));
    },
    go: async () => {
      if (link === 'slow') await pair.link.set(SLOW);
      const before = await pair.view(VM);
      const started = performance.now();
      await pair.primary.client.call('replicationResume', { ref: VM });
      const cycles = before.statistics.cycles;
      await pair.until('the end of the job', async () => {
        const { inFlight, statistics } = await pair.view(VM);
        return statistics.cycles > cycles || (inFlight !== null && inFlight.totalBytes !== null);
      });
      const seen = (performance.now() - started) / 1000;
      await pair.link.set(NO_LIMIT);
      await pair.until('its acknowledgement', async () => (await pair.view(VM)).statistics.cycles > cycles);
      const { lastJobMs } = (await pair.view(VM)).statistics;
      return { seconds: lastJobMs / 1000, cpuSeconds: 0, figures: { seen } };
    },
  };
}

function packer({ corpus, place }: Bench, bytes: number): Contestant {
  const file = join(place.data, 'changed');
  return {
    name: 'zstd',
    prepare: async (round) => {
      rmSync(file, { force: true });
      const out = openSync(file, 'w');
      const block = Buffer.allocUnsafe(MIB);
      for (let at = 0; at < bytes; at += MIB) {
        realistic(corpus)(block, at, round);
        writeSync(out, block);
      }
      closeSync(out);
    },
    go: () => runMeasured('zstd', ['-1', '-T2', '-q', '-f', '-o', `${file}.zst`, file], []),
  };
}
