/** What a guest feels of replication: fio on a disk as its guest has it, with real cycles and without. */
import { sleep } from '../../src/lib/clock.ts';
import { GIB, KIB, MIB } from '../images/corpus.ts';
import { fio, type FioResult } from '../load/fio.ts';
import { alternate, summarize, type Contestant } from '../measure/samples.ts';
import { atLeast, atMost, type Bench, type Part, type Row } from '../part.ts';
import { Pair, TARGET } from '../rig/pair.ts';
import { amount, figure } from '../rows.ts';

const VM = 'vm';
const INTERVAL_S = 5;
const RATE = 1500;
const LONG_INTERVAL_S = 300;

export const guest: Part = {
  name: 'guest',
  title: `What the guest feels: random 4K writes, ${RATE}/s, a cycle every ${INTERVAL_S} s`,
  async run(bench) {
    const { place, full, rounds, say } = bench;
    const diskBytes = full ? 4 * GIB : 512 * MIB;
    const opening = Pair.open(place, { name: 'guest', vms: { [VM]: { history: 2 } }, diskBytes, interval: INTERVAL_S });
    return await place.with(opening, async (pair) => {
      await pair.establish();
      const disk = { socketPath: pair.socket(VM), exportName: TARGET, blockBytes: MIB, depth: 4, seconds: 0 };
      await fio({ ...disk, rw: 'write', once: true });
      const steady = [writer(pair, 'alone', full), writer(pair, 'cycles', full)];
      const samples = await alternate(steady, full ? rounds : Math.min(rounds, 1), say);
      const of = (name: string, unit: string) => samples.get(name)!.map(figure(unit));
      const alone = (unit: string) => ({ name: 'the same without cycles', values: of('alone', unit) });
      const rows: Row[] = [
        amount('requests', '/s', of('cycles', 'iops'), { peer: alone('iops'), target: atLeast('ratio', 0.99) }),
        amount('p50', 'ms', of('cycles', 'p50'), { peer: alone('p50') }),
        amount('p99', 'ms', of('cycles', 'p99'), { peer: alone('p99'), target: atMost('ratio', 5) }),
        amount('p99.9', 'ms', of('cycles', 'p999'), { peer: alone('p999') }),
        amount('max', 'ms', of('cycles', 'max'), { peer: alone('max'), target: atMost('value', 50) }),
        amount('cycles meanwhile', '', of('cycles', 'cycles')),
      ];
      return full ? [...rows, await saturating(bench, pair)] : rows;
    });
  },
};

async function load(pair: Pair, seconds: number, rate?: number): Promise<FioResult> {
  const job = {
    socketPath: pair.socket(VM),
    exportName: TARGET,
    rw: 'randwrite',
    blockBytes: 4 * KIB,
    depth: 4,
  } as const;
  return await fio({ ...job, seconds, ...(rate === undefined ? {} : { rate }) });
}

function writer(pair: Pair, name: 'alone' | 'cycles', full: boolean): Contestant {
  return {
    name,
    prepare: async () => {
      await pair.hold(VM);
      await pair.cycle(VM); // what was written without cycles isn't to be caught up with now
      await pair.hold(VM);
    },
    go: async () => {
      const before = (await pair.view(VM)).statistics.cycles;
      if (name === 'cycles') await pair.primary.client.call('replicationResume', { ref: VM });
      const seconds = full ? 16 : 7;
      const result = await load(pair, seconds, RATE);
      const cycles = (await pair.view(VM)).statistics.cycles - before;
      await pair.primary.client.call('replicationResume', { ref: VM });
      return { seconds, cpuSeconds: 0, figures: { ...result, cycles } };
    },
  };
}

/** As fast as it goes. What one cycle costs in a minute, it costs in five; so the rest of them is taken as undisturbed. */
async function saturating({ rounds }: Bench, pair: Pair): Promise<Row> {
  const seconds = 60;
  const shares: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await pair.hold(VM);
    const alone = await load(pair, seconds);
    const running = load(pair, seconds);
    await sleep(5000); // not a wait for anything: the cycle is to fall into the middle of the load
    await pair.primary.client.call('replicationSet', { ref: VM, intervalSeconds: LONG_INTERVAL_S });
    await pair.primary.client.call('replicationResume', { ref: VM });
    const { iops } = await running;
    const lost = Math.max(0, alone.iops - iops) * seconds;
    shares.push(1 - lost / (alone.iops * LONG_INTERVAL_S));
  }
  const ours = summarize(shares);
  const what = `as fast as it goes, a cycle every ${LONG_INTERVAL_S / 60} min: share of the requests`;
  return { what, unit: '', ours, target: atLeast('value', 0.97), note: `from one cycle in ${seconds} s` };
}
