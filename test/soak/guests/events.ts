/** What happens to a pair of hosts in an ordinary week, so that what only that leaves behind shows. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { sleep, within } from '../../../src/lib/clock.ts';
import { protectedNow } from '../../system/two-hosts.ts';
import { pointsOf } from '../../system/equality.ts';
import type { Relation, SoakWorld } from './world.ts';

export interface Event {
  readonly name: string;
  readonly happen: (world: SoakWorld, relation: Relation) => Promise<void>;
}

const BACK_MS = 120_000;
const WATCH_MS = 12_000;

export const EVENTS: readonly Event[] = [
  {
    name: 'cut of the link',
    async happen({ lab }) {
      await lab.host('a').cut();
      try {
        await sleep(12_000);
      } finally {
        await lab.host('a').heal();
      }
    },
  },
  {
    name: 'pause and resume',
    async happen(_, { vm, primary }) {
      await primary.client.call('replicationSuspend', { ref: vm });
      await sleep(8000);
      await primary.client.call('replicationResume', { ref: vm });
    },
  },
  {
    name: 'test failover',
    async happen(_, { vm, replica }) {
      const points = await pointsOf(replica, vm);
      const { sequence } = points[Math.floor(points.length / 2)]!;
      await replica.act('testFailoverStart', { ref: vm, point: sequence });
      await sleep(10_000);
      await replica.act('testFailoverStop', { ref: vm });
    },
  },
  {
    name: 'export of a point',
    async happen({ scratch }, { vm, replica }) {
      const { sequence } = (await pointsOf(replica, vm))[0]!;
      const file = join(scratch, `${vm}-vda.qcow2`);
      await replica.act('pointExport', { ref: vm, point: sequence, disk: 'vda', file, format: 'qcow2' });
      rmSync(file);
    },
  },
  {
    name: 'somebody who watches',
    async happen(_, { primary }) {
      const watching = primary.client.stream('replicationWatch', {});
      const late = () => new Error('nothing was to be seen');
      try {
        await within(WATCH_MS, late, async (signal) => {
          while (!signal.aborted) if ((await watching.next()).done === true) throw new Error('the stream ended');
        });
      } finally {
        await watching.return?.(undefined);
      }
    },
  },
  {
    name: 'verification and scrub',
    async happen(_, { vm, primary, replica }) {
      await primary.client.call('replicationVerify', { ref: vm });
      await replica.client.call('replicationScrub', { ref: vm });
    },
  },
];

/** Both relationships have caught up with what their guests do. */
export async function wentOn({ relations }: SoakWorld): Promise<void> {
  await Promise.all(relations.map(({ vm, primary }) => protectedNow(primary, BACK_MS, vm)));
}
