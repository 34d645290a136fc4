/** A cycle in which nothing has changed: its time on a small and a very large disk, and what it costs the daemons themselves. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { sleep } from '../../src/lib/clock.ts';
import { QsdHost } from '../../src/hypervisor/qsd/host.ts';
import { QsdHypervisor } from '../../src/hypervisor/qsd/qsd.ts';
import { createImage } from '../../src/qemu/image.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';
import { GIB } from '../images/corpus.ts';
import { threadSeconds } from '../measure/processes.ts';
import { alternate, type Contestant } from '../measure/samples.ts';
import { atMost, type Bench, type Part, type Row } from '../part.ts';
import { Pair, TARGET } from '../rig/pair.ts';
import { amount, figure } from '../rows.ts';

const VM = 'vm';
const SIZES = { '10 GiB': 10 * GIB, '1 TiB': 1024 * GIB };
const INTERVAL_S = 5;

export const idle: Part = {
  name: 'idle',
  title: 'Idle cycle on sparse disks',
  async run(bench) {
    const { place } = bench;
    const pair = (name: string, diskBytes: number) =>
      Pair.open(place, { name, vms: { [VM]: { history: 2 } }, diskBytes });
    const rows = await place.with(pair('small', SIZES['10 GiB']), (small) =>
      place.with(pair('large', SIZES['1 TiB']), async (large) => {
        for (const each of [small, large]) await each.establish();
        return await times(bench, small, large);
      }),
    );
    return [...rows, await ownCpu(bench)];
  },
};

async function times(bench: Bench, small: Pair, large: Pair): Promise<Row[]> {
  const { rounds, say, place } = bench;
  const host = new QsdHost({ directory: join(place.data, 'idle'), runDirectory: join(place.run, 'idle') });
  return await place.with(Promise.resolve(host), async () => {
    const contestants = [
      ours('10 GiB', small),
      ours('1 TiB', large),
      await bare(place.data, host, '10 GiB', 'bare'),
      await bare(place.data, host, '1 TiB', 'bare'),
      await bare(place.data, host, '10 GiB', 'mapped'),
      await bare(place.data, host, '1 TiB', 'mapped'),
    ];
    const samples = await alternate(contestants, rounds + 2, say);
    const of = (name: string) =>
      samples
        .get(name)!
        .map(figure('cycleSeconds'))
        .map((s) => s * 1000);
    const [ten, tera] = [of('10 GiB'), of('1 TiB')];
    const [bareTen, bareTera] = [of('bare 10 GiB'), of('bare 1 TiB')];
    const [mappedTen, mappedTera] = [of('mapped 10 GiB'), of('mapped 1 TiB')];
    const own = (all: number[], hypervisor: number[]) => all.map((ms, index) => ms - hypervisor[index]!);
    return [
      amount('cycle, 10 GiB', 'ms', ten, {
        peer: { name: 'bare open, close, drop', values: bareTen },
        target: atMost('ratio', 1.5),
      }),
      amount('cycle, 1 TiB', 'ms', tera, {
        peer: { name: 'bare open, close, drop', values: bareTera },
        target: atMost('ratio', 1.5),
      }),
      amount("ours of it (the hypervisor's part taken out), 1 TiB", 'ms', own(tera, mappedTera), {
        peer: { name: 'the same, 10 GiB', values: own(ten, mappedTen) },
        target: atMost('ratio', 1.2),
        note: "the hypervisor's part: open, the answer to what has changed on the whole disk, close, drop",
      }),
    ];
  });
}

function ours(name: string, pair: Pair): Contestant {
  return { name, prepare: () => pair.hold(VM), go: () => pair.cycle(VM) };
}

/** What the hypervisor alone needs for a point of which nothing is read; `mapped`: but what has changed. */
async function bare(
  data: string,
  host: QsdHost,
  size: keyof typeof SIZES,
  how: 'bare' | 'mapped',
): Promise<Contestant> {
  const hypervisor = new QsdHypervisor(host);
  const id = randomUUID();
  const path = join(data, `${how}-${SIZES[size] / GIB}.qcow2`);
  await createImage(path, SIZES[size], { format: 'qcow2' });
  const definition = JSON.stringify({
    id,
    name: `${how} ${size}`,
    network: 'connected',
    disks: [{ target: TARGET, path, format: 'qcow2' }],
  });
  await hypervisor.define({
    definition,
    id,
    name: `${how} ${size}`,
    disks: new Map(),
    otherDisks: 'keep',
    network: 'as-defined',
  });
  await hypervisor.start(id);
  const bitmap = (round: number) => `understudy-bare-${round}`;
  await hypervisor.startBitmap(id, [TARGET], bitmap(-2));
  return {
    name: `${how} ${size}`,
    prepare: async () => undefined,
    go: async (round) => {
      const started = performance.now();
      const request = { vmId: id, targets: [TARGET], since: bitmap(round - 1), next: bitmap(round) };
      const { exports } = await hypervisor.openPoint(request);
      for (const { socketPath, exportName, size: bytes, dirtyContext } of how === 'mapped' ? exports : []) {
        const client = await NbdClient.connect({ socketPath, exportName, metaContexts: [dirtyContext!] });
        await client.extents(dirtyContext!, 0, bytes);
        await client.close();
      }
      await hypervisor.closePoint(id);
      await hypervisor.dropBitmap(id, bitmap(round - 1));
      const cycleSeconds = (performance.now() - started) / 1000;
      return { seconds: cycleSeconds, cpuSeconds: 0, figures: { cycleSeconds } };
    },
  };
}

/** Nobody asks the daemons for anything meanwhile; what they use while replication is held is taken off. */
async function ownCpu({ place, full, say }: Bench): Promise<Row> {
  const windowMs = full ? 60_000 : 11_000;
  const opening = Pair.open(place, {
    name: 'own-cpu',
    vms: { [VM]: { history: 2 } },
    diskBytes: SIZES['10 GiB'],
    interval: INTERVAL_S,
  });
  return await place.with(opening, async (pair) => {
    await pair.establish();
    const used = () => threadSeconds(pair.primary.pid) + threadSeconds(pair.replica.pid);
    const within = async (ms: number): Promise<number> => {
      const before = used();
      await sleep(ms); // the window itself is what is measured
      return used() - before;
    };
    await pair.hold(VM);
    await within(windowMs / 3); // what a start leaves to be done
    const resting = await within(windowMs);
    const { idleCycles } = (await pair.view(VM)).statistics;
    await pair.primary.client.call('replicationResume', { ref: VM });
    const cycling = await within(windowMs);
    const cycles = (await pair.view(VM)).statistics.idleCycles - idleCycles;
    say(`${cycles} cycles: ${cycling.toFixed(3)} s of CPU, ${resting.toFixed(3)} s without`);
    return amount('own CPU of both daemons, a cycle', 'ms', [((cycling - resting) / cycles) * 1000], {
      target: atMost('value', 15),
      note: `qemu-img and storage daemons not counted; mean of ${cycles} cycles`,
    });
  });
}
