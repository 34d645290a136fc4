/** A VM, replicated between the two hosts, and the person who looks after it. */
import { until } from '../../../src/lib/clock.ts';
import { Gate } from '../../../src/lib/gate.ts';
import { asFailure, Failure } from '../../../src/model/failure.ts';
import { Guest, type GuestDisk, type Random } from './guest.ts';
import { isAway, type Host, type Point } from './host.ts';
import { Image } from './image.ts';
import { isWell, tell } from './health.ts';
import { Past, type Images } from './past.ts';

export interface RelationParts {
  readonly vmName: string;
  readonly vmId: string;
  readonly disks: readonly GuestDisk[];
  /** The VM runs on the first. */
  readonly hosts: readonly [Host, Host];
  readonly random: Random;
  readonly retention: Retention;
}

export interface Retention {
  readonly history: number;
  readonly thin: { everySeconds: number; count: number }[];
}

/** The least there is: the campaign begins cycles when it wants them. */
const INTERVAL_SECONDS = 5;
/** From the end of a fault until a relationship is well again, under load. */
const HEALING_MS = 150_000;

export class Relation {
  readonly vmName: string;
  readonly vmId: string;
  readonly past = new Past();
  readonly random: Random;
  retention: Retention;
  /** Where the VM runs, by right. */
  home: Host;
  /** The other. */
  standby: Host;
  /** What is on each host's disks of it, where it has run. */
  readonly guests = new Map<Host, Guest>();
  /** Where a failover that isn't over yet has brought it. */
  failedOver: Host | undefined;
  readonly #life = new Gate();
  #id: string | undefined;

  constructor({ vmName, vmId, disks, hosts, random, retention }: RelationParts) {
    this.vmName = vmName;
    this.vmId = vmId;
    this.random = random;
    this.retention = retention;
    [this.home, this.standby] = hosts;
    const images = disks.map(({ size }) => Image.zeros(size));
    this.guests.set(this.home, new Guest(disks, images, random));
    this.past.begin(images);
  }

  get guest(): Guest {
    return this.guests.get(this.home)!;
  }

  get id(): string {
    if (this.#id === undefined) throw new Failure('wrong-state', `${this.vmName} is not replicated yet`);
    return this.#id;
  }

  async enable(): Promise<void> {
    const { id } = await this.home.client.call('replicationEnable', {
      vm: this.vmName,
      peer: this.standby.name,
      intervalSeconds: INTERVAL_SECONDS,
      ...this.retention,
    });
    this.#id = id;
  }

  /** The VM runs, or may run, on a host, from disks that hold this. */
  runsOn(host: Host, images: Images): void {
    this.guests.set(host, new Guest(this.guest.disks, images, this.random));
  }

  /** From now on the VM is that host's by right. */
  turnTo(home: Host): void {
    if (home !== this.home) [this.home, this.standby] = [this.standby, this.home];
  }

  /** Pauses replication, so that no point is made until it goes on. */
  async hold(): Promise<void> {
    await this.insist('to be suspended', () => this.home.client.call('replicationSuspend', { ref: this.id }));
  }

  async goOn(): Promise<void> {
    await this.insist('to go on', () => this.home.client.call('replicationResume', { ref: this.id }));
  }

  /** The guest works while replication is held. When it dies of it, it is torn: see `mended`. */
  async work(changes: number): Promise<void> {
    await this.hold();
    this.past.end();
    await this.guest.work(this.home.socket(this.vmId), changes);
    this.past.begin(this.guest.images);
  }

  /** The guest works once it runs, and replication goes on. Where its disks die meanwhile, it is looked after later. */
  async live(changes: number): Promise<void> {
    await this.#life.run('working', async () => {
      await this.runsOnHost(this.home);
      if (this.guest.torn !== null) return;
      try {
        await this.work(changes);
        await this.goOn();
      } catch (error) {
        if (this.guest.torn === null) throw asFailure(error);
      }
    });
  }

  async runsOnHost(host: Host): Promise<void> {
    await this.waitFor(
      () => `to run on ${host.name}`,
      async () => (await host.view(this.id))?.vmState === 'running',
    );
  }

  /** After the guest's death in the middle of its work, its VM running again. */
  async mended(): Promise<void> {
    if (this.guest.torn === null) return;
    const wrong = await this.guest.mend(this.home.socket(this.vmId));
    if (wrong !== null) throw new Failure('internal', `${this.vmName}: after the death of its storage daemon ${wrong}`);
    this.past.begin(this.guest.images);
  }

  /** Waits until the replica has, by itself, what the disks held at `since` (ms) or later, and both sides say that all is well. */
  async protectedSince(since: number): Promise<void> {
    let found = '';
    await this.waitFor(
      () => `to be protected and well: ${found}`,
      async () => {
        const [here, there] = [await this.home.view(this.id), await this.standby.view(this.id)];
        found = tell(here, there);
        if (here === undefined || there === undefined) return false;
        return isWell(here, 'primary', since) && isWell(there, 'replica', 0) && here.vmState === 'running';
      },
    );
  }

  /** With replication held: waits until all that the replica has received is applied. */
  async applied(): Promise<void> {
    await this.waitFor(
      () => 'to be applied',
      async () => {
        const { peerStatus } = await this.home.client.call('replicationShow', { ref: this.id });
        return (
          typeof peerStatus?.appliedSequence === 'number' && peerStatus.appliedSequence === peerStatus.receivedSequence
        );
      },
    );
  }

  /** Newest first. */
  async points(): Promise<readonly Point[]> {
    return await this.standby.client.call('pointList', { ref: this.id });
  }

  /** Asks until a daemon that is away, or busy with an action, is there again. */
  async insist<T>(what: string, ask: () => Promise<T>): Promise<T> {
    let answer: { value: T } | undefined;
    let refused = '';
    await this.waitFor(
      () => `${what}: ${refused}`,
      async () => {
        try {
          answer = { value: await ask() };
        } catch (error) {
          const failure = asFailure(error);
          if (!isAway(failure) && failure.code !== 'busy') throw error;
          refused = failure.message;
        }
        return answer !== undefined;
      },
    );
    return answer!.value;
  }

  async waitFor(what: () => string, condition: () => Promise<boolean>): Promise<void> {
    const answered = async () => {
      try {
        return await condition();
      } catch (error) {
        if (isAway(asFailure(error))) return false;
        throw error;
      }
    };
    await until(answered, {
      timeoutMs: HEALING_MS,
      everyMs: 100,
      onTimeout: () =>
        new Failure('timeout', `${this.vmName}, ${this.id}, in ${HEALING_MS / 1000} s it didn't come ${what()}`),
    });
  }
}
