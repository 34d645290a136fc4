/** What keeping recovery points costs when a log is applied: time, and bytes written by the replica. */
import { GIB, KIB, MIB } from '../images/corpus.ts';
import { realistic } from '../images/change.ts';
import { alternate, type Contestant } from '../measure/samples.ts';
import { atMost, type Bench, type Part, type Row } from '../part.ts';
import { Pair } from '../rig/pair.ts';
import { makePoints } from '../rig/points.ts';
import { amount, figure } from '../rows.ts';

const DISK = GIB;

export const apply: Part = {
  name: 'apply',
  title: 'Apply with and without recovery points, and what the replica writes',
  async run(bench) {
    const { place, full, rounds, say } = bench;
    const kept = full ? [0, 24, 240, 1000] : [0, 24];
    const bytes = full ? 512 * MIB : 64 * MIB;
    const vms = Object.fromEntries(kept.map((history) => [`keeps-${history}`, { history }]));
    return await place.with(Pair.open(place, { name: 'apply', vms, diskBytes: DISK }), async (pair) => {
      await pair.establish();
      for (const count of kept) {
        await makePoints(bench, pair, `keeps-${count}`, { count, bytes: 256 * KIB, diskBytes: DISK });
      }
      const contestants = kept.map((history) => ours(bench, pair, `keeps-${history}`, bytes));
      const samples = await alternate(contestants, rounds, say);
      const of = (history: number, name: string) => samples.get(`keeps-${history}`)!.map(figure(name));
      const without = { name: 'ours, 0 points', values: of(0, 'applySeconds') };
      const rows: Row[] = kept.slice(1).map((history) =>
        amount(`apply ${bytes / MIB} MiB, ${history} points`, 's', of(history, 'applySeconds'), {
          peer: without,
          target: atMost('ratio', 1.6),
          note: 'from the acknowledgement until applied and flushed',
        }),
      );
      const written = (history: number) => of(history, 'replicaWritten').map((value) => value / bytes);
      rows.push(
        amount('replica writes per byte changed, no history', 'B', written(0), { target: atMost('value', 1.5) }),
        amount('replica writes per byte changed, 24 points', 'B', written(24), { target: atMost('value', 1.9) }),
      );
      return rows;
    });
  },
};

function ours({ corpus }: Bench, pair: Pair, name: string, bytes: number): Contestant {
  return {
    name,
    prepare: (round) => pair.change(name, [{ offset: DISK / 4, length: bytes }], realistic(corpus), round),
    go: () => pair.cycle(name),
  };
}
