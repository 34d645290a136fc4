/** From the administrator's word until the VM runs on the Replica server, beside the bare start of such a VM. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { QsdHost } from '../../src/hypervisor/qsd/host.ts';
import { QsdHypervisor } from '../../src/hypervisor/qsd/qsd.ts';
import { createImage } from '../../src/qemu/image.ts';
import { GIB, KIB, MIB } from '../images/corpus.ts';
import { alternate, type Contestant } from '../measure/samples.ts';
import { atMost, type Bench, type Part, type Row } from '../part.ts';
import { Pair, TARGET } from '../rig/pair.ts';
import { makePoints } from '../rig/points.ts';
import { amount, seconds } from '../rows.ts';

const VM = 'vm';

export const failover: Part = {
  name: 'failover',
  title: 'Unplanned failover: from the word until the VM runs (disks without a guest: opened and offered)',
  async run(bench) {
    const { place, full, rounds, say } = bench;
    const count = full ? 1000 : 24;
    const diskBytes = full ? 2 * GIB : 512 * MIB;
    const opening = Pair.open(place, { name: 'failover', vms: { [VM]: { history: count } }, diskBytes });
    return await place.with(opening, async (pair) => {
      await pair.establish();
      await makePoints(bench, pair, VM, { count, bytes: 256 * KIB, diskBytes });
      await pair.primary.stop();
      const points = await pair.points(VM);
      const older = points[Math.floor(points.length / 2)]!.sequence;
      const contestants = [start(bench, pair), to(pair, 'latest'), to(pair, 'older', older)];
      const samples = await alternate(contestants, rounds, say);
      const bare = samples.get('start')!.map(seconds);
      const row = (name: string, what: string, limit: number): Row => {
        const beyond = samples.get(name)!.map((sample, index) => seconds(sample) - bare[index]!);
        return amount(`${what}, ${points.length} points: beyond the bare start`, 's', beyond, {
          target: atMost('value', limit),
        });
      };
      return [
        row('latest', 'to the latest point', 1.5),
        row('older', 'to an older point', 3),
        amount('bare start', 's', bare),
      ];
    });
  },
};

function to(pair: Pair, name: string, point?: number): Contestant {
  return {
    name,
    prepare: async () => undefined,
    go: async () => {
      const started = performance.now();
      await pair.act(pair.replica, 'unplannedFailover', { ref: VM, ...(point === undefined ? {} : { point }) });
      const took = (performance.now() - started) / 1000;
      await pair.act(pair.replica, 'cancelFailover', { ref: VM });
      return { seconds: took, cpuSeconds: 0, figures: {} };
    },
  };
}

/** The same hypervisor starts an overlay over a disk as large, without us. */
function start({ place }: Bench, pair: Pair): Contestant {
  const base = join(place.data, 'bare-base.qcow2');
  const path = join(place.data, 'bare.qcow2');
  const host = new QsdHost({ directory: join(place.data, 'bare'), runDirectory: join(place.run, 'bare') });
  const hypervisor = new QsdHypervisor(host);
  const id = randomUUID();
  return {
    name: 'start',
    prepare: async (round) => {
      if (round >= 0) return;
      const size = (await pair.replica.client.call('replicationList', {}))[0]!.disks[0]!.size;
      await createImage(base, size, { format: 'qcow2' });
      await createImage(path, size, { format: 'qcow2', backing: { path: base, format: 'qcow2' } });
      const definition = { id, name: 'bare', network: 'connected', disks: [{ target: TARGET, path, format: 'qcow2' }] };
      await hypervisor.define({
        definition: JSON.stringify(definition),
        id,
        name: 'bare',
        disks: new Map(),
        otherDisks: 'keep',
        network: 'as-defined',
      });
    },
    go: async () => {
      const started = performance.now();
      await hypervisor.start(id);
      const took = (performance.now() - started) / 1000;
      await hypervisor.destroy(id);
      return { seconds: took, cpuSeconds: 0, figures: {} };
    },
  };
}
