/** Reading an old recovery point while it stays what it is: beside the flat disk of the same replica. */
import { join } from 'node:path';
import { readdirSync } from 'node:fs';
import { Failure } from '../../src/model/failure.ts';
import { GIB, KIB, MIB } from '../images/corpus.ts';
import { fio } from '../load/fio.ts';
import { memory } from '../measure/processes.ts';
import { alternate, type Contestant } from '../measure/samples.ts';
import { atLeast, atMost, type Bench, type Part, type Row } from '../part.ts';
import { Pair, TARGET } from '../rig/pair.ts';
import { makePoints } from '../rig/points.ts';
import { amount, figure } from '../rows.ts';

const VM = 'vm';
const LOGS = 240;
/** Extents of the replica whose index is weighed: each a cluster of storage at both ends. */
const MANY = 131_072;

export const view: Part = {
  name: 'view',
  title: `View of a point with ${LOGS} undo logs, beside the flat disk (fio over NBD)`,
  async run(bench) {
    const rows = await reading(bench);
    return bench.full ? [...rows, await weighing(bench)] : rows;
  },
};

async function reading(bench: Bench): Promise<Row[]> {
  const { place, full, rounds, say } = bench;
  const diskBytes = full ? 4 * GIB : 512 * MIB;
  const each = full ? 4 * MIB : 512 * KIB;
  const opening = Pair.open(place, { name: 'view', vms: { [VM]: { history: LOGS } }, diskBytes });
  return await place.with(opening, async (pair) => {
    await pair.establish();
    const disk = { socketPath: pair.socket(VM), exportName: TARGET, blockBytes: MIB, depth: 4, seconds: 0 };
    await fio({ ...disk, rw: 'write', once: true });
    await pair.hold(VM);
    await pair.cycle(VM);
    await makePoints(bench, pair, VM, { count: LOGS, bytes: each, diskBytes });
    const opened = await openOldest(pair);
    const { view: socket, flat } = sockets(pair, opened.id);
    const contestants = (['randread', 'read'] as const).flatMap((rw) => [
      reader(`plain ${rw}`, flat, rw, full),
      reader(`view ${rw}`, socket, rw, full),
    ]);
    const samples = await alternate(contestants, rounds, say);
    await closeView(pair);
    const of = (name: string, unit: string) => samples.get(name)!.map(figure(unit));
    const plain = (rw: string, unit: string) => ({ name: 'plain NBD, flat disk', values: of(`plain ${rw}`, unit) });
    return [
      amount('random 4K reads, QD1', '/s', of('view randread', 'iops'), {
        peer: plain('randread', 'iops'),
        target: atLeast('ratio', 0.5),
      }),
      amount('sequential reads', 'MiB/s', of('view read', 'mibs'), {
        peer: plain('read', 'mibs'),
        target: atLeast('ratio', 0.5),
      }),
      amount('test failover of it, from the word until it runs', 's', [opened.seconds], {
        note: 'index, relay, overlays, and the start of disks without a guest',
      }),
    ];
  });
}

function reader(name: string, socketPath: string, rw: 'read' | 'randread', full: boolean): Contestant {
  const [blockBytes, depth] = rw === 'read' ? [MIB, 4] : [4 * KIB, 1];
  return {
    name,
    prepare: async () => undefined,
    go: async () => {
      const seconds = full ? 5 : 2;
      const { iops, bytesPerSecond } = await fio({ socketPath, exportName: TARGET, rw, blockBytes, depth, seconds });
      return { seconds, cpuSeconds: 0, figures: { iops, mibs: bytesPerSecond / MIB } };
    },
  };
}

/** What the index of very many extents takes: as much as the Replica server's daemon grows when the view is opened. */
async function weighing({ place, rounds }: Bench): Promise<Row> {
  const cluster = 64 * KIB;
  const opening = Pair.open(place, { name: 'many', vms: { [VM]: { history: 8 } }, diskBytes: 2 * MANY * cluster });
  return await place.with(opening, async (pair) => {
    await pair.establish();
    await pair.hold(VM);
    const disk = await pair.disk(VM);
    for (let first = 0; first < MANY; first += 64) {
      const pages = Array.from({ length: 64 }, (_, i) => {
        const page = Buffer.alloc(4 * KIB, 1);
        page.writeUInt32LE(first + i); // none is the same as another
        return disk.write(2 * (first + i) * cluster, page);
      });
      await Promise.all(pages);
    }
    await disk.close();
    const { figures } = await pair.cycle(VM);
    const grown: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const before = memory(pair.replica.pid, 'VmRSS');
      await openOldest(pair);
      grown.push(((memory(pair.replica.pid, 'VmRSS') - before) / MIB) * (1e6 / MANY));
      await closeView(pair);
    }
    // What a first one took isn't all given back: those after it find room there.
    return amount('index, for a million extents', 'MiB', [Math.max(...grown)], {
      target: atMost('value', 40),
      note: `resident memory of the daemon, the most of ${rounds}, scaled from ${MANY} extents (${(figures['changedBytes']! / GIB).toFixed(1)} GiB in the log)`,
    });
  });
}

async function openOldest(pair: Pair): Promise<{ id: string; seconds: number }> {
  const { sequence } = (await pair.points(VM)).at(-1)!;
  const action = await pair.act(pair.replica, 'testFailoverStart', { ref: VM, point: sequence });
  if (action.endedAt === null) throw new Failure('internal', 'a test failover that has begun has not ended');
  return { id: action.replication, seconds: (action.endedAt - action.startedAt) / 1000 };
}

async function closeView(pair: Pair): Promise<void> {
  await pair.act(pair.replica, 'testFailoverStop', { ref: VM });
}

/** Where the view itself and the replica's own storage daemon listen. */
function sockets(pair: Pair, relationship: string): { view: string; flat: string } {
  const { run } = pair.replica.place;
  const replica = join(run, 'replicas', relationship);
  const name = readdirSync(replica).find((file) => /^view.*\.nbd$/.test(file));
  return { view: join(replica, name ?? 'view'), flat: join(replica, 'disks.nbd') };
}
