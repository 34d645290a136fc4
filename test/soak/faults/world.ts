/** Two hosts, some VMs that are replicated between them, both ways, and what is to be mended when a fault is over. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Place } from '../../../bench/rig/place.ts';
import { createImage } from '../../../src/qemu/image.ts';
import { unlessRefused } from './failovers.ts';
import type { Random } from './guest.ts';
import { Host } from './host.ts';
import { Relation, type Retention } from './relation.ts';
import { SmallDisk } from './small-disk.ts';

const MIB = 2 ** 20;
/** Some clusters more, and one that isn't whole. */
const ODD = 3 * 65_536 + 4608;

export interface WorldOptions {
  /** Below which everything is kept; in it `small`, a file system of its own. */
  readonly directory: string;
  readonly random: Random;
  readonly relations: number;
  /** A disk has so many at most; 16 at least. */
  readonly diskMiB: number;
  readonly say: (text: string) => void;
}

export class World {
  readonly hosts: readonly [Host, Host];
  readonly relations: readonly Relation[];
  readonly small: SmallDisk;
  readonly random: Random;
  /** For files that are soon gone. */
  readonly scratch: string;
  readonly say: (text: string) => void;
  readonly #place: Place;

  private constructor(
    { directory, random, say }: WorldOptions,
    place: Place,
    hosts: readonly [Host, Host],
    relations: readonly Relation[],
  ) {
    this.hosts = hosts;
    this.relations = relations;
    this.random = random;
    this.say = say;
    this.#place = place;
    this.small = new SmallDisk(join(directory, 'small'));
    this.scratch = join(place.data, 'scratch');
    mkdirSync(this.scratch);
  }

  /** Every VM runs, has been written to, and is replicated. */
  static async open(options: WorldOptions): Promise<World> {
    const { directory, random } = options;
    const place = new Place(directory);
    const at = (name: string) => ({
      name,
      program: place.program,
      data: join(place.data, name),
      run: join(place.run, name),
    });
    const a = await Host.open(at('a'), join(place.data, 'a', 'replicas'), random);
    const b = await Host.open(at('b'), join(directory, 'small'), random);
    const relations: Relation[] = [];
    for (let i = 0; i < options.relations; i++) {
      const hosts = i % 2 === 0 ? ([a, b] as const) : ([b, a] as const);
      relations.push(await defineVm(`vm${i}`, hosts, options));
    }
    const world = new World(options, place, [a, b], relations);
    try {
      for (const host of world.hosts) await host.boot();
      const { token } = await b.client.call('peerToken', {});
      await a.client.call('peerJoin', { token });
      for (const relation of relations) {
        await relation.guest.work(relation.home.socket(relation.vmId), 40);
        relation.past.begin(relation.guest.images);
        await relation.enable();
      }
      for (const relation of relations) await relation.protectedSince(Date.now());
    } catch (error) {
      await world.close();
      throw error;
    }
    return world;
  }

  someRetention(): Retention {
    return someRetention(this.random);
  }

  /** What a person has asked for: that it is refused is no violation. */
  asked(asking: Promise<unknown>): Promise<void> {
    const ended = unlessRefused(asking, this.say);
    ended.catch(() => undefined); // thrown where it is waited for
    return ended;
  }

  /** Ends every fault: the way is open, there is room, both machines are up, and every guest that crashed with them. */
  async heal(): Promise<void> {
    for (const { wire } of this.hosts) wire.weather = 'fair';
    await this.small.clear();
    await Promise.all(
      this.hosts.map(async (host) => {
        host.signal('SIGCONT');
        if (host.daemon.running && (host.mayDie || host.crashed)) await host.reboot();
        else await host.boot();
      }),
    );
  }

  /** The last words of both daemons. */
  lastWords(): string {
    return this.hosts.map(({ name, daemon }) => `── ${name}\n${daemon.lastWords(25)}`).join('\n');
  }

  async close(): Promise<void> {
    for (const { wire } of this.hosts) wire.weather = 'fair';
    await Promise.all(this.hosts.map((host) => host.daemon.kill()));
    await Promise.all(this.hosts.map((host) => host.close()));
    await this.#place.close();
  }
}

function someRetention(random: Random): Retention {
  const history = [0, 2, 5][random(3)]!;
  const thin = random(2) === 0 ? [] : [{ everySeconds: 60, count: 1 + random(3) }];
  return { history, thin };
}

async function defineVm(
  name: string,
  hosts: readonly [Host, Host],
  { random, diskMiB }: WorldOptions,
): Promise<Relation> {
  const id = randomUUID();
  const { data } = hosts[0].daemon.place;
  const disks = ['vda', 'vdb'].map((target) => ({
    target,
    size: (16 + random(diskMiB - 15)) * MIB + (random(2) === 0 ? 0 : ODD),
    path: join(data, `${name}-${target}.qcow2`),
    format: 'qcow2' as const,
  }));
  for (const { path, size } of disks) await createImage(path, size, { format: 'qcow2' });
  const definition = {
    id,
    name,
    network: 'connected',
    disks: disks.map(({ target, path, format }) => ({ target, path, format })),
  };
  writeFileSync(join(data, 'vms', `${id}.json`), JSON.stringify({ definition, autostart: true, bitmaps: {} }));
  return new Relation({ vmName: name, vmId: id, disks, hosts, random, retention: someRetention(random) });
}
