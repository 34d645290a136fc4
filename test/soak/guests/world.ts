import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HostDaemon } from '../../../lab/daemons/host-daemon.ts';
import { LabGuest, installGuestFiles } from '../../../lab/guest/guest.ts';
import { Lab } from '../../../lab/hosts/lab.ts';

const INTERVAL_SECONDS = 5;
const COPY_TIMEOUT_MS = 300_000;
/** So few, and so soon one of a period, that with each cycle a point is retired and undo logs are merged. */
const HISTORY = 6;
const THIN = [{ everySeconds: 60, count: 5 }];

export interface Relation {
  readonly vm: string;
  readonly guest: LabGuest;
  readonly primary: HostDaemon;
  readonly replica: HostDaemon;
}

/** Two hosts, each the primary of one guest and the Replica server of the other. */
export class SoakWorld implements AsyncDisposable {
  readonly lab: Lab;
  readonly daemons: readonly HostDaemon[];
  readonly relations: readonly Relation[];
  /** Both hosts see it under this path. */
  readonly scratch = mkdtempSync(join(tmpdir(), 'us-soak-'));

  private constructor(lab: Lab, daemons: readonly HostDaemon[], relations: readonly Relation[]) {
    this.lab = lab;
    this.daemons = daemons;
    this.relations = relations;
  }

  /** Begins with both relationships replicating. */
  static async create(name: string): Promise<SoakWorld> {
    const lab = await Lab.create({ name, hosts: ['a', 'b'] });
    try {
      const config = { logLevel: 'info' as const };
      const a = new HostDaemon(lab.host('a'), config);
      const b = new HostDaemon(lab.host('b'), config);
      await Promise.all([a.start(), b.start(), installGuestFiles(a.host), installGuestFiles(b.host)]);
      await a.pairWith(b);
      const relations = [
        { vm: 'web', guest: await defined(a, 'web'), primary: a, replica: b },
        { vm: 'mail', guest: await defined(b, 'mail'), primary: b, replica: a },
      ];
      const world = new SoakWorld(lab, [a, b], relations);
      await Promise.all(relations.map(({ guest }) => guest.start()));
      await Promise.all(relations.map(replicated));
      return world;
    } catch (error) {
      await lab.dispose();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab.dispose();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

async function defined({ host }: HostDaemon, name: string): Promise<LabGuest> {
  const disk = { sizeMiB: 64 };
  return await LabGuest.define(host, { name, autostart: true, vda: disk, vdb: disk, rewriteKiB: 64 });
}

async function replicated({ vm, primary, replica }: Relation): Promise<void> {
  const settings = { intervalSeconds: INTERVAL_SECONDS, history: HISTORY, thin: THIN };
  await primary.client.call('replicationEnable', { vm, peer: replica.host.name, ...settings });
  await primary.waitFor(vm, 'replicating', ({ state }) => state === 'Replicating', COPY_TIMEOUT_MS);
}
