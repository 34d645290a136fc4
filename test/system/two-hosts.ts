import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { type GuestOptions, LabGuest, installGuestFiles } from '../../lab/guest/guest.ts';
import { Lab, type LabOptions } from '../../lab/hosts/lab.ts';
import type { ConfigFile } from '../../src/daemon/config/options.ts';

export const VM = 'web';
/** The shortest that there is. */
export const INTERVAL_SECONDS = 5;
const INTERVAL_MS = INTERVAL_SECONDS * 1000;
const DISK_MIB = 64;
const COPY_TIMEOUT_MS = 120_000;

export type Replication = Awaited<ReturnType<HostDaemon['show']>>;

export interface TwoHostsOptions {
  readonly guest?: Partial<GuestOptions>;
  readonly config?: ConfigFile;
  readonly usr?: LabOptions['usr'];
  /** What is made of the guest before its first start. */
  readonly prepare?: (guest: LabGuest) => Promise<void>;
}

/** Two isolated hosts, each with libvirtd and understudyd, paired; the test guest runs on the first one. */
export class TwoHosts implements AsyncDisposable {
  readonly lab: Lab;
  readonly a: HostDaemon;
  readonly b: HostDaemon;
  readonly guest: LabGuest;
  /** For files of the test; both hosts see it under this path. */
  readonly scratch: string;

  private constructor(lab: Lab, daemons: { a: HostDaemon; b: HostDaemon }, guest: LabGuest) {
    this.lab = lab;
    this.a = daemons.a;
    this.b = daemons.b;
    this.guest = guest;
    this.scratch = mkdtempSync(join(tmpdir(), 'us-system-'));
  }

  static async create(
    name: string,
    { guest: options = {}, config = {}, usr = {}, prepare }: TwoHostsOptions = {},
  ): Promise<TwoHosts> {
    const lab = await Lab.create({ name, hosts: ['a', 'b'], usr });
    try {
      const [a, b] = [new HostDaemon(lab.host('a'), config), new HostDaemon(lab.host('b'), config)];
      const guest = await LabGuest.define(a.host, {
        name: VM,
        autostart: true,
        vda: { sizeMiB: DISK_MIB },
        vdb: { sizeMiB: DISK_MIB },
        ...options,
      });
      await prepare?.(guest);
      await installGuestFiles(b.host);
      await Promise.all([a.start(), b.start(), guest.start()]);
      await a.pairWith(b);
      return new TwoHosts(lab, { a, b }, guest);
    } catch (error) {
      await lab.dispose();
      throw error;
    }
  }

  /** The guest as it runs on the Replica server after a failover. */
  get guestOnB(): LabGuest {
    return new LabGuest(this.b.host, VM);
  }

  async enable(): Promise<Replication> {
    return await this.a.client.call('replicationEnable', { vm: VM, peer: 'b', intervalSeconds: INTERVAL_SECONDS });
  }

  /** Enables replication and waits for the first recovery point. */
  async replicate(): Promise<Replication> {
    await this.enable();
    return await this.a.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating', COPY_TIMEOUT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab.dispose();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

/** What a relationship is, without asking the other side: quick even while that one can't be reached. */
export async function look(daemon: HostDaemon): Promise<Replication> {
  const found = (await daemon.client.call('replicationList', {})).find(({ vmName }) => vmName === VM);
  if (found === undefined) throw new Error(`${daemon.host.name} knows no relationship of ${VM}`);
  return found;
}

/** Makes the next cycle due at once: that is what a change of settings does, even one that changes nothing. */
export async function hurry(daemon: HostDaemon, vm = VM): Promise<void> {
  await daemon.client.call('replicationSet', { ref: vm, intervalSeconds: INTERVAL_SECONDS });
}

/** Waits until everything that the guest had done by now is at the replica. */
export async function protectedNow(primary: HostDaemon, timeoutMs = 10 * INTERVAL_MS, vm = VM): Promise<Replication> {
  const now = Date.now();
  const isSince = ({ protectedUntil }: Replication) => protectedUntil !== null && protectedUntil > now;
  return await primary.waitFor(vm, 'protected up to now', isSince, timeoutMs);
}

/** Events of the relationship on a host, `kind: message`, oldest first. */
export async function eventsOf(daemon: HostDaemon): Promise<string[]> {
  const events = await daemon.client.call('eventList', { ref: VM, limit: 1000 });
  return events.map(({ kind, message }) => `${kind}: ${message}`).toReversed();
}
