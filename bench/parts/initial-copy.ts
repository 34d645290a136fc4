/** The initial copy of a disk that holds a real system, beside everything that copies whole disks. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Corpus, GIB, MIB } from '../images/corpus.ts';
import { alternate, type Contestant, type Sample } from '../measure/samples.ts';
import { atLeast, type Bench, type Part, type Row } from '../part.ts';
import { libnbdLoop, runMeasured } from '../peers/programs.ts';
import { QemuSource } from '../peers/qemu-source.ts';
import { EXPORT, QemuTarget } from '../peers/qemu-target.ts';
import { Pair } from '../rig/pair.ts';
import { amount, cpu, speed } from '../rows.ts';

const VM = 'vm';
const LOOP = 'libnbd loop, lz4, file';
const CONVERT = 'qemu-img convert, TLS';
const LIST: Readonly<Record<string, string>> = {
  mirror: 'QEMU mirror, TLS',
  nbdcopy: 'nbdcopy, unix socket',
  rsync: 'rsync --inplace, local files',
};

export const initialCopy: Part = {
  name: 'initial-copy',
  title: 'Initial copy: a whole disk → the first recovery point',
  async run(bench) {
    if (bench.full) return await measure(bench, bench.corpus);
    const small = await Corpus.open(bench.images, GIB, 0.4 * GIB);
    try {
      return await measure(bench, small);
    } finally {
      small.close();
    }
  },
};

async function measure(bench: Bench, corpus: Corpus): Promise<Row[]> {
  const { place, rounds, say, full } = bench;
  const { size, path: source } = corpus;
  const opening = Pair.open(place, { name: 'copy', vms: { [VM]: { history: 2 } }, diskBytes: size, source });
  return await place.with(opening, (pair) =>
    place.with(QemuTarget.open(place, 'copy-tls', size, 'tls'), (tls) =>
      place.with(QemuTarget.open(place, 'copy-unix', size, 'unix'), (unix) =>
        place.with(QemuSource.open(place, 'copy-source', { bytes: size, source }, tls), async (from) => {
          const contestants = [ours(pair), loop(bench, from), convert(from, tls, size)];
          if (full) contestants.push(mirror(from, tls, size), nbdcopy(from, unix, size), rsync(bench, source));
          return rowsOf(corpus, await alternate(contestants, rounds, say));
        }),
      ),
    ),
  );
}

function ours(pair: Pair): Contestant {
  return {
    name: 'ours',
    prepare: async () => {
      const known = await pair.primary.client.call('replicationList', {});
      if (known.length > 0) await pair.remove(VM);
    },
    go: async () => {
      const before = pair.cpuSeconds();
      const started = performance.now();
      await pair.enable(VM);
      await pair.copied(VM);
      const seconds = (performance.now() - started) / 1000;
      const { sentBytes } = (await pair.view(VM)).statistics;
      return { seconds, cpuSeconds: pair.cpuSeconds() - before, figures: { wireBytes: sentBytes } };
    },
  };
}

function loop({ place }: Bench, from: QemuSource): Contestant {
  const out = join(place.data, 'copy.out');
  const { nbdSocket: socketPath, pid } = from.daemon;
  return {
    name: LOOP,
    prepare: async () => rmSync(out, { force: true }),
    go: () => libnbdLoop({ socketPath, exportName: 'disk', context: 'base:allocation' }, out, [pid]),
  };
}

function convert(from: QemuSource, to: QemuTarget, size: number): Contestant {
  const key = `tls-creds-psk,id=tls,endpoint=client,dir=${to.keys},username=bench`;
  const source = `driver=nbd,server.type=unix,server.path=${from.daemon.nbdSocket},export=disk`;
  const target = `driver=nbd,server.type=inet,server.host=127.0.0.1,server.port=${to.port},export=${EXPORT},tls-creds=tls`;
  // writeback: what was written is flushed at the end; unsafe, the default, leaves that out
  const args = ['convert', '-n', '--target-is-zero', '-t', 'writeback', '--object', key];
  args.push('--image-opts', source, '--target-image-opts', target);
  return {
    name: CONVERT,
    prepare: () => to.renew(size),
    go: () => runMeasured('qemu-img', args, [from.daemon.pid, to.daemon.pid]),
  };
}

function mirror(from: QemuSource, to: QemuTarget, size: number): Contestant {
  return { name: 'mirror', prepare: () => to.renew(size), go: () => from.mirror() };
}

function nbdcopy(from: QemuSource, to: QemuTarget, size: number): Contestant {
  const uri = (socket: string, name: string) => `nbd+unix:///${name}?socket=${socket}`;
  const ends = [uri(from.daemon.nbdSocket, 'disk'), uri(to.daemon.nbdSocket, EXPORT)];
  const args = ['--connections=1', '--request-size=1048576', '--destination-is-zero', '--flush', ...ends];
  return {
    name: 'nbdcopy',
    prepare: () => to.renew(size),
    go: () => runMeasured('nbdcopy', args, [from.daemon.pid, to.daemon.pid]),
  };
}

function rsync({ place }: Bench, source: string): Contestant {
  const directory = join(place.data, 'rsync');
  const out = join(directory, 'disk.raw');
  return {
    name: 'rsync',
    prepare: async () => {
      mkdirSync(directory, { recursive: true });
      rmSync(out, { force: true });
    },
    go: () => runMeasured('rsync', ['--inplace', '--whole-file', '--fsync', source, out], []),
  };
}

function rowsOf(corpus: Corpus, samples: ReadonlyMap<string, readonly Sample[]>): Row[] {
  const own = samples.get('ours')!;
  const what = `${corpus.size / GIB} GiB, ${Math.round(corpus.dataBytes / MIB)} MiB data`;
  const against = (contestant: string, name = contestant) => ({ name, samples: samples.get(contestant)! });
  const share = (sample: Sample) => (100 * sample.figures['wireBytes']!) / corpus.dataBytes;
  const gib = corpus.dataBytes / GIB;
  return [
    speed(what, { samples: own }, against(LOOP), atLeast('ratio', 2)),
    speed(what, { samples: own }, against(CONVERT), atLeast('ratio', 1)),
    ...Object.keys(LIST)
      .filter((name) => samples.has(name))
      .map((name) => speed(what, { samples: own }, against(name, LIST[name]))),
    amount('bytes of the logs', '%', own.map(share), { peer: { name: LOOP, values: samples.get(LOOP)!.map(share) } }),
    amount(
      'CPU for a GiB of data',
      's',
      own.map((sample) => cpu(sample) / gib),
      { peer: { name: CONVERT, values: samples.get(CONVERT)!.map((sample) => cpu(sample) / gib) } },
    ),
  ];
}
