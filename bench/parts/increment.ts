/** An increment, end to end: a guest has changed so much; until it is acknowledged, and until it is applied and flushed. */
import { join } from 'node:path';
import { GIB, MIB, KIB } from '../images/corpus.ts';
import { realistic, scattered, totalOf, write, type Run } from '../images/change.ts';
import { alternate, type Contestant, type Sample } from '../measure/samples.ts';
import { atLeast, atMost, type Bench, type Part, type Row } from '../part.ts';
import { libnbdLoop } from '../peers/programs.ts';
import { QemuSource } from '../peers/qemu-source.ts';
import { QemuTarget, type Transport } from '../peers/qemu-target.ts';
import { Pair } from '../rig/pair.ts';
import { amount, cpu, figure, seconds, speed } from '../rows.ts';

interface Change {
  readonly name: string;
  readonly runs: readonly Run[];
  /** The one that the targets speak of: all peers, all rows. */
  readonly main: boolean;
}

const DISK = 4 * GIB;
const LOOP = 'libnbd loop, lz4, file';

function changes(full: boolean): Change[] {
  const part = (percent: number, run: number): Change => {
    const bytes = (DISK * percent) / 100;
    return { name: `${percent} % of 4 GiB`, runs: scattered(DISK, bytes, Math.ceil(bytes / run)), main: false };
  };
  const mainBytes = full ? GIB : 256 * MIB;
  const main = {
    name: full ? '1 GiB' : '256 MiB',
    runs: [
      { offset: DISK / 8, length: mainBytes / 2 },
      { offset: (DISK / 8) * 5, length: mainBytes / 2 },
    ],
    main: true,
  };
  return full
    ? [part(0.1, 64 * KIB), part(1, 256 * KIB), part(10, MIB), main]
    : [part(0.1, 64 * KIB), part(1, 256 * KIB), main];
}

export const increment: Part = {
  name: 'increment',
  title: 'Increment: changed data → acknowledged → applied and flushed',
  async run(bench) {
    const { place } = bench;
    const rows: Row[] = [];
    const pair = (name: string, compression: 'none' | 1) =>
      Pair.open(place, { name, config: { compression }, vms: { vm: { history: 2 } }, diskBytes: DISK });
    await place.with(pair('plain', 'none'), (plain) =>
      place.with(pair('zstd', 1), async (zstd) => {
        for (const each of [plain, zstd]) await each.establish();
        for (const change of changes(bench.full)) rows.push(...(await measure(bench, { plain, zstd }, change)));
      }),
    );
    return rows;
  },
};

async function measure(bench: Bench, pairs: { plain: Pair; zstd: Pair }, change: Change): Promise<Row[]> {
  const { place, rounds, say, full } = bench;
  const transports: Transport[] = change.main && full ? ['tls', 'tcp', 'unix'] : ['tls'];
  const contestants: Contestant[] = [
    ours(bench, 'ours', pairs.plain, change),
    ours(bench, 'ours zstd', pairs.zstd, change),
  ];
  const opened: { close(): Promise<void> }[] = [];
  return await place.with(Promise.resolve({ close: () => closeAll(opened) }), async () => {
    for (const transport of transports) {
      const target = await QemuTarget.open(place, `t-${transport}-${change.runs.length}`, DISK, transport);
      opened.push(target);
      const source = await QemuSource.open(place, `s-${transport}-${change.runs.length}`, { bytes: DISK }, target);
      opened.push(source);
      contestants.push(push(bench, source, transport, change));
      if (change.main && transport === 'tls') contestants.push(loop(bench, source, change));
    }
    const samples = await alternate(contestants, rounds, (line) => say(`${change.name}: ${line}`));
    return rowsOf(change, samples);
  });
}

async function closeAll(opened: { close(): Promise<void> }[]): Promise<void> {
  for (const each of opened.splice(0).toReversed()) await each.close();
}

function ours({ corpus }: Bench, name: string, pair: Pair, { runs }: Change): Contestant {
  return {
    name,
    prepare: (round) => pair.change('vm', runs, realistic(corpus), round),
    go: () => pair.cycle('vm'),
  };
}

function push({ corpus }: Bench, source: QemuSource, transport: Transport, { runs }: Change): Contestant {
  return {
    name: `push ${transport}`,
    prepare: async (round) => {
      const disk = await source.disk();
      await write(disk, runs, realistic(corpus), round);
      await disk.close();
    },
    go: () => source.push(),
  };
}

/** Reads the same change as the push before it, written again. */
function loop({ corpus, place }: Bench, source: QemuSource, { runs }: Change): Contestant {
  return {
    name: LOOP,
    prepare: async (round) => {
      const disk = await source.disk();
      await write(disk, runs, realistic(corpus), round);
      await disk.close();
    },
    go: async () => {
      const changed = await source.showChanges();
      const sample = await libnbdLoop(changed, join(place.data, 'loop.out'), [source.daemon.pid]);
      await source.hideChanges();
      return sample;
    },
  };
}

function rowsOf(change: Change, samples: ReadonlyMap<string, readonly Sample[]>): Row[] {
  const { name, main } = change;
  const of = (contestant: string) => samples.get(contestant)!;
  const plain = of('ours');
  const zstd = of('ours zstd');
  const peer = { name: 'QEMU push, TCP + TLS', samples: of('push tls') };
  const acknowledged = figure('acknowledged');
  const gib = totalOf(change.runs) / GIB;
  const rows = [
    speed(
      `${name}: acknowledged, plain`,
      { samples: plain, of: acknowledged },
      peer,
      main ? atLeast('ratio', 1.5) : undefined,
    ),
    speed(`${name}: applied, plain`, { samples: plain }, peer, main ? atLeast('ratio', 1) : undefined),
    speed(`${name}: acknowledged, zstd`, { samples: zstd, of: acknowledged }, peer),
    speed(`${name}: applied, zstd`, { samples: zstd }, peer, main ? atLeast('ratio', 0.8) : undefined),
  ];
  if (!main) return rows;
  for (const transport of ['tcp', 'unix']) {
    const others = samples.get(`push ${transport}`);
    if (others !== undefined)
      rows.push(
        speed(`${name}: applied, plain`, { samples: plain }, { name: `QEMU push, ${transport}`, samples: others }),
      );
  }
  const share = (sample: Sample) => (100 * sample.figures['wireBytes']!) / totalOf(change.runs);
  const perGib = (sample: Sample) => cpu(sample) / gib;
  rows.push(
    speed(`${name}: acknowledged, zstd`, { samples: zstd, of: acknowledged }, { name: LOOP, samples: of(LOOP) }),
    amount(`${name}: bytes of the log, zstd`, '%', zstd.map(share), {
      target: atMost('value', 40),
      peer: { name: LOOP, values: of(LOOP).map(share) },
    }),
    amount(`${name}: CPU, applied, plain`, 's/GiB', plain.map(perGib), {
      peer: { name: peer.name, values: peer.samples.map(perGib) },
    }),
    amount(`${name}: CPU, applied, zstd`, 's/GiB', zstd.map(perGib), {
      target: atMost('value', 9),
      peer: { name: peer.name, values: peer.samples.map(perGib) },
    }),
    amount(`${name}: job open, zstd`, 's', zstd.map(figure('jobSeconds')), {
      peer: { name: 'its whole cycle', values: zstd.map(seconds) },
    }),
  );
  return rows;
}
