/** Many relationships on one pair of hosts: lag, memory, CPU. */
import { sleep } from '../../src/lib/clock.ts';
import { GIB, KIB, MIB } from '../images/corpus.ts';
import { realistic, write } from '../images/change.ts';
import { memory, threadSeconds } from '../measure/processes.ts';
import { percentile } from '../measure/samples.ts';
import { atMost, type Bench, type Part, type Row } from '../part.ts';
import { Pair } from '../rig/pair.ts';
import { amount } from '../rows.ts';

const CHANGE = MIB;
const DISK = GIB;

export const scale: Part = {
  name: 'scale',
  title: 'Many relationships on one pair of hosts, 1 MiB changed in each interval',
  async run(bench) {
    const rows: Row[] = [];
    for (const count of bench.full ? [1, 10, 100] : [1, 10]) rows.push(...(await measure(bench, count)));
    return rows;
  },
};

async function measure({ place, corpus, full, say }: Bench, count: number): Promise<Row[]> {
  const interval = full ? 30 : 5;
  const intervals = full ? 4 : 2;
  const names = Array.from({ length: count }, (_, index) => `vm${index}`);
  const vms = Object.fromEntries(names.map((name) => [name, { history: 24 }]));
  const opening = Pair.open(place, { name: `scale-${count}`, vms, diskBytes: DISK, interval });
  return await place.with(opening, async (pair) => {
    await pair.establish();
    const pids = [pair.primary.pid, pair.replica.pid];
    const own = () => pids.reduce((sum, pid) => sum + threadSeconds(pid), 0);
    const lags: number[] = [];
    const [cpuBefore, allBefore, started] = [own(), pair.cpuSeconds(), performance.now()];
    for (let round = 0; round < intervals; round++) {
      for (const [index, name] of names.entries()) {
        const due = started + (round + index / count) * interval * 1000;
        if (due > performance.now()) await sleep(due - performance.now()); // changes come evenly over the interval
        const disk = await pair.disk(name);
        await write(disk, [{ offset: index * 64 * KIB, length: CHANGE }], realistic(corpus), round * count + index);
        await disk.close();
        if (index % Math.ceil(count / 5) === 0) lags.push(...(await lagsOf(pair)));
      }
    }
    const elapsed = (performance.now() - started) / 1000;
    const cpuShare = (100 * (own() - cpuBefore)) / elapsed;
    const all = (100 * (pair.cpuSeconds() - allBefore)) / elapsed;
    const missed = (await pair.primary.client.call('replicationList', {})).reduce(
      (sum, { statistics }) => sum + statistics.missedCycles,
      0,
    );
    say(`${count}: p99 of the lag ${percentile(lags, 99).toFixed(1)} s, missed ${missed}`);
    const peak = Math.max(...pids.map((pid) => memory(pid, 'VmHWM'))) / MIB;
    return [
      amount(`${count}: lag, p99, every ${interval} s`, 's', [percentile(lags, 99)], {
        target: atMost('value', 2 * interval),
      }),
      amount(`${count}: daemon's memory, at its highest, the larger side`, 'MiB', [peak], {
        target: atMost('value', 400),
      }),
      amount(`${count}: CPU of both daemons`, '%', [cpuShare], {
        note: `with storage daemons ${all.toFixed(0)} % of a core; cycles missed: ${missed}`,
      }),
    ];
  });
}

async function lagsOf(pair: Pair): Promise<number[]> {
  const views = await pair.primary.client.call('replicationList', {});
  return views.flatMap(({ lagMs }) => (lagMs === null ? [] : [lagMs / 1000]));
}
