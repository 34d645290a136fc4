/** What the stages of the demo share: two hosts, their daemons, the guest, who watches them, and what is found. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import type { Request, Result } from '../src/api/contract.ts';
import { until } from '../src/lib/clock.ts';
import { Failure } from '../src/model/failure.ts';
import { HostDaemon } from '../lab/daemons/host-daemon.ts';
import { LabGuest } from '../lab/guest/guest.ts';
import { parseRecords, type WorkloadRecord } from '../lab/guest/records.ts';
import { Witness } from '../lab/guest/witness.ts';
import type { Lab } from '../lab/hosts/lab.ts';
import { CycleWatch } from './cycle-watch.ts';
import { History } from './history.ts';
import type { Options } from './options.ts';
import type { Report } from './report.ts';
import type { Screen } from './screen.ts';
import { seeded } from './seed.ts';
import type { TwoRunners } from './two-runners.ts';

export const VM = 'web';
export const INTERVAL_MS = 5000;

/** libvirt gives up on an agent after 30 s. */
const AGENT_LOST_MS = 40_000;

/** Small slices, so that there is something to see of a copy of 100 MiB. */
const CONFIG = { slice: { bytes: '8 MiB' } } as const;

type Failover =
  | 'testFailoverStart'
  | 'testFailoverStop'
  | 'unplannedFailover'
  | 'reverseReplication'
  | 'plannedFailover';

/** What both disks hold. */
export interface Records {
  readonly vda: readonly WorkloadRecord[];
  readonly vdb: readonly WorkloadRecord[];
}

/** The last number up to which every record is there, on both disks, and is the one that was announced. */
export function inherited({ vda, vdb }: Records, history: History): number {
  return Math.min(history.inherited(vda), history.inherited(vdb));
}

/** Whether there is no other record, but for one that vda has and vdb is about to get. */
export function holdsOnly({ vda, vdb }: Records, history: History): boolean {
  return history.inherited(vda) === vda.length && history.inherited(vdb) === vdb.length;
}

export class Scene {
  readonly lab: Lab;
  readonly options: Options;
  readonly screen: Screen;
  readonly report: Report;
  readonly a: HostDaemon;
  readonly b: HostDaemon;
  /** The VM, on either host. */
  readonly onA: LabGuest;
  readonly onB: LabGuest;
  readonly witnessA: Witness;
  readonly witnessB: Witness;
  readonly cycles = new CycleWatch(VM);
  readonly random: () => number;
  /** From the return of host A on. */
  runners: TwoRunners | undefined;
  #stage = '';
  readonly #past: string[] = [];
  #life: { readonly guest: LabGuest; readonly from: number };

  constructor(lab: Lab, options: Options, screen: Screen, report: Report) {
    this.lab = lab;
    this.options = options;
    this.screen = screen;
    this.report = report;
    this.random = seeded(options.seed);
    this.a = new HostDaemon(lab.host('a'), CONFIG);
    this.b = new HostDaemon(lab.host('b'), CONFIG);
    this.onA = new LabGuest(this.a.host, VM);
    this.onB = new LabGuest(this.b.host, VM);
    this.#life = { guest: this.onA, from: 0 };
    this.witnessA = this.onA.witness();
    this.witnessB = this.onB.witness();
  }

  /** Tells what comes, and does it. */
  async stage(title: string, why: string, play: (scene: Scene) => Promise<void>): Promise<void> {
    this.#stage = title;
    this.screen.stage(title, why);
    const began = performance.now();
    await play(this);
    this.report.stages.push({ name: title, durationMs: Math.round(performance.now() - began) });
  }

  check(ok: boolean, text: string): void {
    this.report.checks.push({ stage: this.#stage, ok, text });
    this.screen.check(ok, text);
  }

  /** Has a failover done, telling its steps; gives what came of it, and when it was asked for. */
  async act<N extends Failover>(daemon: HostDaemon, name: N, request: Request<N>) {
    const { screen } = this;
    const decidedAt = Date.now();
    let done = 0;
    let since: number | undefined;
    const asked = performance.now();
    const { result } = await daemon.act(name, request, ({ steps, obstacle }: Result<'actionShow'>) => {
      if (since === undefined) screen.step('both sides looked at, as far as they answer', performance.now() - asked);
      since ??= performance.now();
      for (; steps[done]?.state === 'done'; done++) {
        screen.step(steps[done]!.title, performance.now() - since);
        since = performance.now();
      }
      const now = steps.find(({ state }) => state === 'running');
      if (now !== undefined) screen.underWay(`${now.title} … ${obstacle?.message ?? ''}`);
    });
    return { result: result!, decidedAt };
  }

  /**
   * Waits for the VM to be up after a failover; gives how long after the decision its agent answered (null when
   * libvirt lost it) and the first new record was complete.
   */
  async recovered(guest: LabGuest, witness: Witness, decidedAt: number) {
    this.screen.underWay('the guest boots …');
    const first = () => witness.completed.find(({ seen }) => seen >= decidedAt);
    await until(() => first() !== undefined, {
      timeoutMs: 90_000,
      onTimeout: () => new Failure('timeout', `${VM} on ${guest.host.name} has written nothing in 90 s`),
    });
    const rtoAgentMs = (await this.#agentAnswers(guest)) ? Date.now() - decidedAt : null;
    return { rtoAgentMs, rtoRecordMs: first()!.seen - decidedAt };
  }

  /**
   * Known fault of libvirt: an agent that comes up in the moment in which a backup job is open is lost until libvirtd
   * starts again. The guest is well; only libvirt can't ask it.
   */
  async #agentAnswers(guest: LabGuest): Promise<boolean> {
    try {
      await guest.agent.wait(AGENT_LOST_MS);
      return true;
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'timeout') throw error;
    }
    const { host } = guest;
    this.screen.warn(
      `The guest writes, but libvirt on ${host.name.toUpperCase()} has lost its agent: it came up while a backup job was open.`,
    );
    this.screen.warn('A fault of libvirt; libvirtd is started again, the guest runs on.');
    await host.stopLibvirtd();
    await host.startLibvirtd();
    await guest.agent.wait();
    return false;
  }

  /** From now on the VM lives here: what it announces from there on is its word. */
  beginLife(guest: LabGuest, from = announcedBytes(guest)): void {
    this.#life = { guest, from };
  }

  endLife(): void {
    this.#past.push(this.#present());
  }

  /** What the guest announced, life after life, without or with the present one. */
  past(): History {
    return new History(this.#past);
  }

  now(): History {
    return new History([...this.#past, this.#present()]);
  }

  /** All records of both disks of a running guest. */
  async records(guest: LabGuest): Promise<Records> {
    const read = async (disk: string) => parseRecords(await guest.agent.readFile(`/${disk}/records`));
    return { vda: await read('vda'), vdb: await read('vdb') };
  }

  #present(): string {
    const { guest, from } = this.#life;
    return announcedSince(guest, from);
  }

  /** Ends the watchers. */
  async close(): Promise<void> {
    this.witnessA.stop();
    this.witnessB.stop();
    await Promise.all([this.cycles.stop(), this.runners?.stop()]);
  }
}

/** How much has been announced on a host so far. */
export function announcedBytes(guest: LabGuest): number {
  return statSync(guest.host.path(guest.announcements), { throwIfNoEntry: false })?.size ?? 0;
}

function announcedSince(guest: LabGuest, offset: number): string {
  const file = openSync(guest.host.path(guest.announcements), 'r');
  try {
    const text = Buffer.alloc(Math.max(0, announcedBytes(guest) - offset));
    const length = readSync(file, text, 0, text.length, offset);
    return text.toString('latin1', 0, length);
  } finally {
    closeSync(file);
  }
}
