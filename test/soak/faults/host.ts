/** A host of the campaign: a daemon with the VMs that run on it, the way to it, and all that may happen to them. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { tree } from '../../../bench/measure/processes.ts';
import { BenchDaemon, freePort, type DaemonPlace } from '../../../bench/rig/daemon.ts';
import type { Request, Result } from '../../../src/api/contract.ts';
import { sleep, until } from '../../../src/lib/clock.ts';
import { Gate } from '../../../src/lib/gate.ts';
import { asFailure, Failure } from '../../../src/model/failure.ts';
import type { Random } from './guest.ts';
import { Violation } from './violation.ts';
import { Wire } from './wire.ts';

export type Action = Result<'actionShow'>;
export type Replication = Result<'replicationShow'>;
export type Point = Result<'pointList'>[number];
export type ActionCall =
  | 'pointExport'
  | 'testFailoverStart'
  | 'testFailoverStop'
  | 'unplannedFailover'
  | 'cancelFailover'
  | 'reverseReplication'
  | 'plannedFailover';

const PATIENCE_MS = 90_000;
const STOP_MS = 60_000;

export class Host {
  readonly daemon: BenchDaemon;
  readonly wire: Wire;
  /** Where replicas are kept. */
  readonly replicas: string;
  /** Its daemon has a crash point that it may still come to. */
  mayDie = false;
  /** A VM of it was killed: who looks after it starts it again, here with the whole host. */
  crashed = false;
  readonly #gate = new Gate();

  private constructor(daemon: BenchDaemon, wire: Wire, replicas: string) {
    this.daemon = daemon;
    this.wire = wire;
    this.replicas = replicas;
  }

  /** @param replicas where replicas are kept. */
  static async open(place: DaemonPlace, replicas: string, random: Random): Promise<Host> {
    const own = await freePort();
    const wire = await Wire.open(own, random);
    const daemon = BenchDaemon.prepare(
      place,
      { replicaDirectory: replicas, slice: { bytes: '4 MiB' } },
      { own, advertised: wire.port },
    );
    return new Host(daemon, wire, replicas);
  }

  get name(): string {
    return this.daemon.place.name;
  }

  get client() {
    return this.daemon.client;
  }

  /** NBD socket of a VM that runs here. */
  socket(vmId: string): string {
    return join(this.daemon.place.run, 'vms', `${vmId}.nbd`);
  }

  /** As the machine boots: with `hypervisor: qsd` the daemon is all of it. It may die of it when it has a crash point. */
  async boot(crash?: string): Promise<void> {
    await this.#gate.run('boot', () => this.#boot(crash));
  }

  /** Shuts the machine down; nothing if it is down. Violation when it doesn't end. */
  async shutDown(): Promise<void> {
    await this.#gate.run('shut down', () => this.#shutDown());
  }

  async reboot(crash?: string): Promise<void> {
    await this.#gate.run('reboot', async () => {
      await this.#shutDown();
      await this.#boot(crash);
    });
  }

  /** Whether the daemon ends within so many ms, and before nobody expects it any more. */
  async dies(ms: number, isOver?: () => Promise<boolean>): Promise<boolean> {
    const deadline = performance.now() + ms;
    while (this.daemon.running && performance.now() < deadline) {
      if (await isOver?.().catch(whenAway)) break;
      await sleep(50);
    }
    return !this.daemon.running;
  }

  async #boot(crash: string | undefined): Promise<void> {
    if (this.daemon.running) return;
    rmSync(join(this.daemon.place.run, 'started'), { force: true });
    this.mayDie = crash !== undefined;
    this.crashed = false;
    try {
      await this.daemon.start(crash === undefined ? {} : { UNDERSTUDY_CRASH: crash });
    } catch (error) {
      if (crash === undefined || this.daemon.running) throw error; // else it died at once
    }
  }

  async #shutDown(): Promise<void> {
    this.signal('SIGCONT'); // another fault may have stopped it: nobody would continue it once it is told to end
    const stopped = this.daemon.stop().then(() => true);
    const ended = await Promise.race([stopped, sleep(STOP_MS).then(() => false)]);
    if (!ended) throw new Violation(`${this.name} does not end within ${STOP_MS / 1000} s`);
  }

  /** Of its VMs, or of its replicas. */
  storageDaemons(of: 'vms' | 'replicas'): number[] {
    if (!this.daemon.running) return [];
    const all = tree([this.daemon.pid]).filter((pid) => commandOf(pid).startsWith('qemu-storage-daemon'));
    return all.filter((pid) => commandOf(pid).includes('/vms/') === (of === 'vms'));
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    if (this.daemon.running) process.kill(this.daemon.pid, signal);
  }

  /** States of the VMs that are defined here, by id. */
  async vms(): Promise<Map<string, string>> {
    return new Map((await this.client.call('vmList', {})).map(({ id, state }) => [id, state]));
  }

  async view(id: string): Promise<Replication | undefined> {
    return (await this.client.call('replicationList', {})).find((view) => view.id === id);
  }

  /** Begins an action and follows it to its end, over deaths of the daemon. Throws what undid it. */
  async act<N extends ActionCall>(name: N, request: Request<N>): Promise<Action> {
    const { id } = (await this.client.call(name, request)) as Action;
    return await this.ended(id);
  }

  async ended(id: string): Promise<Action> {
    let action: Action | undefined;
    const over = async (): Promise<boolean> => {
      action = await this.client.call('actionShow', { action: id }).catch(whenAway);
      return action?.state === 'done' || action?.state === 'undone';
    };
    await until(over, {
      timeoutMs: PATIENCE_MS,
      everyMs: 60,
      onTimeout: () => new Failure('timeout', `${this.name}: ${action?.kind} is still ${JSON.stringify(action)}`),
    });
    if (action!.state === 'done') return action!;
    throw Failure.fromJson(action!.failure ?? { code: 'internal', message: `${action!.kind} was undone` });
  }

  async close(): Promise<void> {
    this.signal('SIGCONT');
    await this.shutDown();
    await this.wire.close();
  }
}

/** A daemon that is down, or is just dying, doesn't answer; what it says itself is thrown. */
function whenAway(error: unknown): undefined {
  const failure = asFailure(error);
  if (!isAway(failure)) throw failure;
}

export function isAway({ code }: Failure): boolean {
  return code === 'unreachable' || code === 'interrupted' || code === 'timeout';
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // it has ended meanwhile
  }
}
