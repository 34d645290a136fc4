/** A long fat link: 1 Gbit/s, and one connection can't fill it. */
import { GIB, MIB } from '../images/corpus.ts';
import { incompressible } from '../images/change.ts';
import { mbit, type LinkOptions } from '../link/link.ts';
import { alternate, type Contestant } from '../measure/samples.ts';
import { atLeast, type Part, type Row } from '../part.ts';
import { Pair } from '../rig/pair.ts';
import { amount, figure } from '../rows.ts';

const VM = 'vm';
const MEGABITS = 1000;
const WINDOW = MIB;

export const longLink: Part = {
  name: 'long-link',
  title: `A long fat link: ${MEGABITS / 1000} Gbit/s, ${WINDOW / MIB} MiB in flight per connection and direction`,
  async run(bench) {
    const { place, full, rounds, say } = bench;
    const bytes = full ? GIB : 128 * MIB;
    const rows: Row[] = [];
    // "50 ms" is read both as the round trip and as each way
    for (const delayMs of [25, 50]) {
      const link: LinkOptions = { delayMs, bytesPerSecond: mbit(MEGABITS), inFlightBytes: WINDOW };
      const name = `long-${delayMs}`;
      const config = { compression: 'none' as const };
      const opening = Pair.open(place, { name, vms: { [VM]: { history: 1 } }, diskBytes: 2 * bytes, link, config });
      const samples = await place.with(opening, async (pair) => {
        await pair.establish();
        return await alternate([ours(pair, bytes, link)], full ? rounds : Math.min(rounds, 2), say);
      });
      const one = (WINDOW / ((2 * delayMs) / 1000) / mbit(MEGABITS)) * 100;
      const shares = samples.get('ours')!.map(figure('share'));
      rows.push(
        amount(`round trip ${2 * delayMs} ms, ${bytes / MIB} MiB: share of the link`, '%', shares, {
          peer: { name: 'one connection at most', values: [one] },
          target: atLeast('value', 80),
          note:
            "from the cycle's beginning to its acknowledgement; connections of the proxy since its start: " +
            samples.get('ours')!.at(-1)!.figures['connections'],
        }),
      );
    }
    return rows;
  },
};

function ours(pair: Pair, bytes: number, link: LinkOptions): Contestant {
  return {
    name: 'ours',
    prepare: (round) => pair.change(VM, [{ offset: 0, length: bytes }], incompressible, round),
    go: async () => {
      const before = await pair.link.set(link);
      const sample = await pair.cycle(VM);
      const { bytesThere, connections } = await pair.link.set(link);
      const rate = (bytesThere - before.bytesThere) / sample.figures['acknowledged']!;
      return { ...sample, figures: { ...sample.figures, share: (100 * rate) / link.bytesPerSecond!, connections } };
    },
  };
}
