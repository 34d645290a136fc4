/** Two paired daemons and the disks that go from one to the other; steered and watched by the API only. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Request, Result } from '../../src/api/contract.ts';
import type { ConfigFile } from '../../src/daemon/config/options.ts';
import { sleep } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { convertImage, createImage } from '../../src/qemu/image.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';
import { write, type Content, type Run } from '../images/change.ts';
import { bytesWritten, cpuSeconds, tree } from '../measure/processes.ts';
import type { Sample } from '../measure/samples.ts';
import { BenchDaemon, freePort } from './daemon.ts';
import { Link, type LinkOptions } from '../link/link.ts';
import type { Place } from './place.ts';

type Replication = Result<'replicationShow'>;
type Point = Result<'pointList'>[number];
type Action = Result<'actionShow'>;
type ActionCall = 'testFailoverStart' | 'testFailoverStop' | 'unplannedFailover' | 'cancelFailover';

export interface PairOptions {
  readonly name: string;
  /** Of the primary and of the Replica server alike. */
  readonly config?: ConfigFile;
  /** VMs by name, one disk each, and how many older points are kept of them. */
  readonly vms: Readonly<Record<string, { readonly history: number }>>;
  readonly diskBytes: number;
  /** Raw image that the disks begin with; empty ones if left out. */
  readonly source?: string;
  /** Seconds from cycle to cycle; left out: only when told to. */
  readonly interval?: number;
  /** Between the two. */
  readonly link?: LinkOptions;
}

/** Long enough that no cycle begins by itself. */
const NEVER_SECONDS = 86_400;
/** A cycle that carries the comparison of a whole day would hold its point open for it: without one where cycles come only when told to. */
const UNVERIFIED: ConfigFile = { verify: { passDays: 0 } };
const PATIENCE_MS = 600_000;
export const TARGET = 'vda';

export class Pair {
  readonly primary: BenchDaemon;
  readonly replica: BenchDaemon;
  readonly #link: Link | undefined;
  readonly #options: PairOptions;
  readonly #ids: ReadonlyMap<string, string>;
  readonly #directory: string;

  private constructor(
    options: PairOptions,
    parts: { primary: BenchDaemon; replica: BenchDaemon; link: Link | undefined },
    ids: ReadonlyMap<string, string>,
    directory: string,
  ) {
    this.#options = options;
    this.primary = parts.primary;
    this.replica = parts.replica;
    this.#link = parts.link;
    this.#ids = ids;
    this.#directory = directory;
  }

  /** Both daemons run and are paired, disks are open; nothing is replicated yet. */
  static async open(place: Place, options: PairOptions): Promise<Pair> {
    const { name, vms, diskBytes, source } = options;
    const config = options.interval === undefined ? { ...UNVERIFIED, ...options.config } : (options.config ?? {});
    const directory = join(place.data, name);
    mkdirSync(directory, { recursive: true });
    const at = (side: string) => ({
      name: `${name}-${side}`,
      program: place.program,
      data: join(directory, side),
      run: join(place.run, `${name}-${side}`),
    });
    const [portA, portB] = [await freePort(), await freePort()];
    const link = options.link === undefined ? undefined : await Link.open(portB, options.link);
    const replica = BenchDaemon.prepare(at('b'), config, { own: portB, advertised: link?.port ?? portB });
    const primary = BenchDaemon.prepare(at('a'), config, { own: portA, advertised: portA });
    const ids = new Map<string, string>();
    for (const vm of Object.keys(vms)) {
      const path = join(directory, `${vm}.qcow2`);
      if (source === undefined) await createImage(path, diskBytes, { format: 'qcow2' });
      else await convertImage({ path: source, format: 'raw' }, { path, format: 'qcow2' });
      const id = randomUUID();
      const definition = { id, name: vm, network: 'connected', disks: [{ target: TARGET, path, format: 'qcow2' }] };
      const file = { definition, autostart: true, bitmaps: {} };
      writeFileSync(join(primary.place.data, 'vms', `${id}.json`), JSON.stringify(file));
      ids.set(vm, id);
    }
    const pair = new Pair(options, { primary, replica, link }, ids, directory);
    try {
      await replica.start();
      await primary.start();
      const { token } = await replica.client.call('peerToken', {});
      await primary.client.call('peerJoin', { token });
    } catch (error) {
      await pair.close();
      throw error;
    }
    return pair;
  }

  get names(): string[] {
    return Object.keys(this.#options.vms);
  }

  /** The link between the two, where one was asked for. */
  get link(): Link {
    if (this.#link === undefined) throw new Failure('wrong-state', 'these two have no link between them');
    return this.#link;
  }

  /** Begins replication of a VM. */
  async enable(vm: string): Promise<void> {
    const { vms, interval = NEVER_SECONDS } = this.#options;
    const { history } = vms[vm]!;
    const peer = this.replica.place.name;
    await this.primary.client.call('replicationEnable', { vm, peer, intervalSeconds: interval, history });
  }

  /** Ends replication of a VM, replica and all. */
  async remove(vm: string): Promise<void> {
    await this.primary.client.call('replicationRemove', { ref: vm });
    const gone = async () =>
      (await this.replica.client.call('replicationList', {})).every(({ vmName }) => vmName !== vm);
    await this.until(`the end of ${vm}'s replica`, gone);
  }

  /** Waits for the first recovery point of a VM. */
  async copied(vm: string): Promise<void> {
    await this.until(`the first point of ${vm}`, async () => (await this.latest(vm)) !== undefined);
  }

  /** Begins replication of every VM and waits until each has a recovery point. */
  async establish(): Promise<void> {
    for (const vm of this.names) {
      await this.enable(vm);
      await this.copied(vm);
    }
  }

  /** The guest's side of a VM's disk. */
  async disk(vm: string): Promise<NbdClient> {
    return await NbdClient.connect({ socketPath: this.socket(vm), exportName: TARGET });
  }

  socket(vm: string): string {
    return join(this.primary.place.run, 'vms', `${this.#ids.get(vm)!}.nbd`);
  }

  /** Image of a VM on the primary. */
  image(vm: string): string {
    return join(this.#directory, `${vm}.qcow2`);
  }

  /** The relationship as the primary sees it, without asking the other side. */
  async view(vm: string): Promise<Replication> {
    const views = await this.primary.client.call('replicationList', {});
    const found = views.find(({ vmName }) => vmName === vm);
    if (found === undefined) throw new Failure('not-found', `${vm} is not replicated`);
    return found;
  }

  /** Newest first. */
  async points(vm: string): Promise<readonly Point[]> {
    try {
      return await this.replica.client.call('pointList', { ref: vm });
    } catch (error) {
      if (error instanceof Failure && error.code === 'not-found') return []; // not prepared yet
      throw error;
    }
  }

  /** Newest point on the Replica server: applied and flushed. */
  async latest(vm: string): Promise<Point | undefined> {
    return (await this.points(vm)).find(({ latest }) => latest);
  }

  /** From now on nothing is sent until `cycle`. */
  async hold(vm: string): Promise<void> {
    await this.primary.client.call('replicationSuspend', { ref: vm });
  }

  /**
   * With replication held: lets it go on, which begins a cycle, and waits for its acknowledgement and its application. `seconds` and
   * CPU are until applied and flushed.
   */
  async cycle(vm: string): Promise<Sample> {
    const before = (await this.view(vm)).statistics;
    const sequence = (await this.latest(vm))!.sequence;
    const cpu = this.cpuSeconds();
    const written = this.replicaWritten();
    const started = performance.now();
    await this.primary.client.call('replicationResume', { ref: vm });
    const ended = (now: Replication['statistics']) =>
      now.cycles + now.idleCycles > before.cycles + before.idleCycles ? now : undefined;
    let after: Replication['statistics'] | undefined;
    await this.until(`a cycle of ${vm}`, async () => (after = ended((await this.view(vm)).statistics)) !== undefined);
    const acknowledged = (performance.now() - started) / 1000;
    const cpuAcknowledged = this.cpuSeconds() - cpu;
    if (after!.cycles > before.cycles) {
      await this.until(`the point of ${vm}`, async () => (await this.latest(vm))!.sequence > sequence);
    }
    const seconds = (performance.now() - started) / 1000;
    return {
      seconds,
      cpuSeconds: this.cpuSeconds() - cpu,
      figures: {
        acknowledged,
        cpuAcknowledged,
        applySeconds: seconds - acknowledged,
        wireBytes: after!.sentBytes - before.sentBytes,
        changedBytes: after!.changedBytes - before.changedBytes,
        jobSeconds: after!.lastJobMs / 1000,
        cycleSeconds: after!.lastCycleMs / 1000,
        replicaWritten: this.replicaWritten() - written,
      },
    };
  }

  /** Begins an action on one of the two and waits for its end. Throws what undid it. */
  async act<N extends ActionCall>(daemon: BenchDaemon, name: N, request: Request<N>): Promise<Action> {
    let action = (await daemon.client.call(name, request)) as Action;
    for await (const now of daemon.client.stream('actionWatch', { action: action.id })) action = now;
    if (action.state === 'done') return action;
    const why = action.failure ?? { code: 'internal', message: `${action.kind} is ${action.state}` };
    throw Failure.fromJson(why);
  }

  /** Of both daemons and of their storage daemons. */
  cpuSeconds(): number {
    return cpuSeconds([this.primary.pid, this.replica.pid]);
  }

  /** With replication held: one cycle that isn't measured, until its point exists; then it is held again. */
  async advance(vm: string): Promise<void> {
    const before = (await this.latest(vm))?.sequence ?? -1;
    await this.primary.client.call('replicationResume', { ref: vm });
    await this.until(`the point of ${vm}`, async () => ((await this.latest(vm))?.sequence ?? -1) > before);
    await this.hold(vm);
  }

  /** Bytes that the Replica server, its storage daemons with it, has caused to be written to storage. */
  replicaWritten(): number {
    return tree([this.replica.pid]).reduce((sum, pid) => sum + bytesWritten(pid), 0);
  }

  /** Changes a VM's disk as its guest, with replication held. */
  async change(vm: string, runs: readonly Run[], content: Content, round: number): Promise<void> {
    await this.hold(vm);
    const disk = await this.disk(vm);
    await write(disk, runs, content, round);
    await disk.close();
  }

  async close(): Promise<void> {
    await Promise.all([this.primary.stop(), this.replica.stop()]);
    await this.#link?.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Asks often at first, then less: 4 % exact, and cheap. */
  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const started = performance.now();
    while (!(await holds())) {
      const waited = performance.now() - started;
      if (waited > PATIENCE_MS) throw new Failure('timeout', `${what} did not come in ${PATIENCE_MS / 1000} s`);
      await sleep(Math.max(10, waited / 25));
    }
  }
}
