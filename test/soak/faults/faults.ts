/** What may happen: to everything at once, or to one relationship. What it has broken is mended by `World.heal`. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep } from '../../../src/lib/clock.ts';
import { opens } from '../../../src/qemu/image.ts';
import { RecordFile } from '../../../src/replica/record.ts';
import { flipBit } from '../../faults/corruption.ts';
import {
  IN_A_COPY,
  IN_A_CYCLE,
  IN_AN_UNCHANGED_CYCLE,
  IN_MERGING,
  IN_RECEIVING_AND_APPLYING,
  IN_THINNING,
} from '../../faults/crash-points.ts';
import { FAILOVERS } from './failovers.ts';
import type { Host } from './host.ts';
import type { Relation } from './relation.ts';
import { WEATHERS } from './wire.ts';
import type { World } from './world.ts';

export interface Happening {
  readonly world: World;
  /** The one that it is about, if it is about one. */
  readonly relation: Relation;
  /** Nothing else happens meanwhile. */
  readonly alone: boolean;
  /** Tells what exactly it is. */
  readonly tell: (text: string) => void;
}

export interface Happened {
  /** What it has begun and goes on; it may wait for the world to be mended. */
  readonly underWay: Promise<unknown>;
}

export interface Fault {
  readonly name: string;
  /** Relationships that it hits: each is a round. */
  readonly hits: 'all' | 'one';
  /** How often it is chosen beside the others. */
  readonly weight: number;
  readonly happen: (happening: Happening) => Promise<Happened | void>;
}

const CRASH_POINTS = [
  ...IN_RECEIVING_AND_APPLYING,
  ...IN_MERGING,
  ...IN_A_CYCLE,
  ...IN_THINNING,
  ...IN_AN_UNCHANGED_CYCLE,
  ...IN_A_COPY,
];
/** In a resynchronization, which begins then. */
const IN_A_RESYNC: ReadonlySet<string> = new Set([...IN_A_COPY, 'known:forgotten']);
/** For so long a daemon may come to its crash point, ms. */
const CRASH_MS = 10_000;
/** And from when all has been replicated: what is merged then takes no longer, ms. */
const MERGING_MS = 1000;
/** What guests do meanwhile, so that there is something to die of. */
const CHANGES = 6;
const PAUSE_MS = 3000;

const either = ({ hosts, random }: World): Host => hosts[random(2)]!;

const PROCESSES: readonly Fault[] = [
  {
    name: 'kill -9 of a daemon',
    hits: 'all',
    weight: 4,
    happen: async ({ world, tell }) => {
      const host = either(world);
      tell(host.name);
      await host.daemon.kill();
    },
  },
  {
    name: 'kill -9 of both daemons',
    hits: 'all',
    weight: 2,
    happen: async ({ world }) => {
      await Promise.all(world.hosts.map((host) => host.daemon.kill()));
    },
  },
  {
    name: 'kill -9 of a storage daemon',
    hits: 'one',
    weight: 3,
    happen: async ({ world, tell }) => {
      const host = either(world);
      const of = world.random(2) === 0 ? 'vms' : 'replicas';
      const all = host.storageDaemons(of);
      if (all.length === 0) return;
      tell(`${host.name}, one of its ${of}'`);
      // A guest that has crashed: who looks after it starts it again, here with the whole host.
      if (of === 'vms') host.crashed = true;
      kill(all[world.random(all.length)]!);
    },
  },
  {
    name: 'death at a crash point',
    hits: 'all',
    weight: 6,
    happen: async ({ world, alone, tell }) => {
      const host = either(world);
      const point = CRASH_POINTS[world.random(CRASH_POINTS.length)]!;
      await host.reboot(point);
      // With a failover beside it nobody would know on which host the guest has worked.
      const working = Promise.all(alone ? world.relations.map((relation) => relation.live(CHANGES)) : []);
      if (IN_A_RESYNC.has(point)) {
        const living = world.relations.filter(({ home }) => home === host);
        await Promise.all(living.map(({ id: ref }) => world.asked(host.client.call('replicationResync', { ref }))));
      }
      const died = await host.dies(CRASH_MS, alone ? replicated(world, working) : undefined);
      tell(`${host.name} at ${point}${died ? '' : ', not reached'}`);
      return { underWay: working };
    },
  },
  {
    name: 'SIGSTOP of a daemon',
    hits: 'all',
    weight: 2,
    happen: async ({ world, tell }) => {
      const host = either(world);
      tell(host.name);
      host.signal('SIGSTOP');
      await sleep(world.random(PAUSE_MS));
      host.signal('SIGCONT');
    },
  },
  {
    name: 'restart of a host',
    hits: 'all',
    weight: 2,
    happen: async ({ world, tell }) => {
      const host = either(world);
      tell(host.name);
      await host.shutDown();
    },
  },
];

/** Whether all that guests have written has been replicated for a while: nobody comes to anything any more. */
function replicated({ relations }: World, working: Promise<unknown>): () => Promise<boolean> {
  let worked = Infinity;
  let reached = Infinity;
  void working.then(
    () => (worked = Date.now()),
    () => undefined, // thrown where it is waited for
  );
  return async () => {
    const until = await Promise.all(relations.map(async ({ home, id }) => (await home.view(id))?.protectedUntil ?? 0));
    if (until.every((instant) => instant >= worked)) reached = Math.min(reached, Date.now());
    return Date.now() >= reached + MERGING_MS;
  };
}

const NETWORK: readonly Fault[] = WEATHERS.map((weather) => ({
  name: `link ${weather}`,
  hits: 'all',
  weight: 1,
  happen: async ({ world }) => {
    for (const { wire } of world.hosts) wire.weather = weather;
    await sleep(world.random(PAUSE_MS));
  },
}));

const STORAGE: readonly Fault[] = [
  {
    name: "the replicas' storage full",
    hits: 'all',
    weight: 2,
    happen: async ({ world, tell }) => {
      const left = world.random(256) * 1024;
      tell(`${left} bytes left`);
      await world.small.fill(left);
      await sleep(world.random(PAUSE_MS));
    },
  },
  {
    name: "a replica's image destroyed",
    hits: 'one',
    weight: 2,
    happen: async ({ world, relation, tell }) => {
      const { standby, id: ref } = relation;
      const images = await replicaImages(standby, ref);
      const image = images[world.random(images.length)];
      if (image === undefined) return;
      tell(image);
      await rm(join(standby.replicas, ref, 'damaged'), { recursive: true, force: true }); // a person has tidied up
      await flipBit(image, world.random(4), world.random(8)); // of what says that it is one
      const mend = async (): Promise<void> => {
        await relation.insist('to be looked through', () => standby.client.call('replicationScrub', { ref }));
        await relation.waitFor(
          () => `to have an image again in ${image}`,
          () => opens(image),
        );
      };
      return { underWay: world.asked(mend()) };
    },
  },
];

/** None while a failover has them. */
async function replicaImages({ replicas }: Host, id: string): Promise<string[]> {
  const record = await RecordFile.open(join(replicas, id));
  return record.value.frozen ? [] : record.value.disks.map(({ path }) => path);
}

const PEOPLE: readonly Fault[] = [
  {
    name: 'another retention',
    hits: 'one',
    weight: 2,
    happen: async ({ world, relation, tell }) => {
      const retention = world.someRetention();
      tell(JSON.stringify(retention));
      const { id: ref } = relation;
      const set = () => relation.home.client.call('replicationSet', { ref, ...retention });
      const asked = relation.insist('to keep other points', set).then(() => (relation.retention = retention));
      return { underWay: world.asked(asked) };
    },
  },
  {
    name: 'a resynchronization',
    hits: 'one',
    weight: 3,
    happen: async ({ world, relation }) => {
      await world.asked(relation.home.client.call('replicationResync', { ref: relation.id }));
    },
  },
];

export const FAULTS: readonly Fault[] = [...PROCESSES, ...NETWORK, ...STORAGE, ...PEOPLE, ...FAILOVERS];

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // it has ended meanwhile
  }
}
