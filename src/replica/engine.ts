/**
 * The disks of a replica, opened by a qemu-storage-daemon of its own, which is started when the disks are first needed and
 * again whenever it has ended. Without the daemon nothing holds the images: that is what `stop` is for.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../lib/log.ts';
import { Failure } from '../model/failure.ts';
import { NbdClient, type NbdAddress } from '../qemu/nbd/client.ts';
import { BASE_ALLOCATION } from '../qemu/nbd/wire.ts';
import { StorageDaemon, type Exit } from '../qemu/storage-daemon.ts';

export interface DiskImage {
  readonly target: string;
  readonly path: string;
}

export interface EngineOptions {
  readonly runDirectory: string;
  /** Name of the daemon's files in the run directory. */
  readonly name: string;
  readonly disks: readonly DiskImage[];
  readonly log: Log;
  /** Called when the daemon can't be started with the disks. */
  readonly onFailed?: () => void;
}

/** Connections to the disks, by index. Lanes and views have their own. */
export interface Connections {
  readonly apply: readonly NbdClient[];
}

interface Running extends Connections {
  readonly daemon: StorageDaemon;
}

const RESTART_PAUSE_MS = 200;

export class DiskEngine {
  readonly #options: EngineOptions;
  #running: Promise<Running> | undefined;
  #disks: readonly DiskImage[];
  /** Resolves when the disks that are being changed can be opened again. */
  #changing: Promise<void> | undefined;
  #stopped = false;
  #lastExit = -Infinity;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#disks = options.disks;
  }

  /** Connections of the running daemon, which is started if there is none. Failures: `wrong-state` when stopped. */
  async connections(): Promise<Connections> {
    return await this.#engine();
  }

  /** Where lanes find the disks, by index; the daemon is started if there is none. Failures as of `connections`. */
  async addresses(): Promise<NbdAddress[]> {
    return (await this.#engine()).apply.map(({ address }) => address);
  }

  /** Process id of the daemon, if one runs: for tests that kill it. */
  async pid(): Promise<number | undefined> {
    return (await this.#running)?.daemon.pid;
  }

  /** Ends the daemon, also that of a process before this one; nothing has the images open afterwards. */
  async stop(): Promise<void> {
    this.forbid();
    const running = await this.#running?.catch(() => undefined);
    this.#running = undefined;
    const { runDirectory: directory, name, log } = this.#options;
    if (running === undefined) return await StorageDaemon.endPredecessor({ directory, name, log });
    disconnect(running);
    const exit = await running.daemon.stop();
    if (exit.code !== 0) this.#options.log.warn({ exit }, 'the storage daemon of the replica ended badly');
  }

  /**
   * Ends the daemon for as long as `work` changes the images; from then on these are its disks. Whoever reads meanwhile waits. They stay
   * what they were when `work` fails. Failure `wrong-state` when stopped: others may have the images open.
   */
  async changeDisks(disks: readonly DiskImage[], work: () => Promise<void>): Promise<void> {
    this.#requireAllowed();
    const changed = Promise.withResolvers<void>();
    this.#changing = changed.promise;
    try {
      const { runDirectory: directory, name, log } = this.#options;
      const running = await this.#running?.catch(() => undefined);
      this.#running = undefined;
      if (running === undefined) {
        await StorageDaemon.endPredecessor({ directory, name, log });
      } else {
        disconnect(running);
        await running.daemon.stop();
      }
      await work();
      this.#disks = disks;
    } finally {
      this.#changing = undefined;
      changed.resolve();
    }
  }

  /** Keeps it from being started. */
  forbid(): void {
    this.#stopped = true;
  }

  /** Lets it be started again. */
  allow(): void {
    this.#stopped = false;
  }

  async #engine(): Promise<Running> {
    await this.#changing;
    this.#requireAllowed();
    if (this.#running === undefined) {
      const starting = this.#start();
      this.#running = starting;
      starting.catch(() => {
        if (this.#running === starting) this.#running = undefined;
      });
    }
    return await this.#running;
  }

  #requireAllowed(): void {
    if (!this.#stopped) return;
    throw new Failure('wrong-state', 'the disks of the replica are released: it is frozen for a failover', {
      hint: 'Wait for the failover to end, or cancel it.',
    });
  }

  async #start(): Promise<Running> {
    const { runDirectory, name, log } = this.#options;
    const pause = this.#lastExit + RESTART_PAUSE_MS - performance.now();
    if (pause > 0) await delay(pause);
    // Who has the address of a daemon that was killed waits until its successor has all exports, and isn't told that one doesn't exist.
    const daemon = await StorageDaemon.start({ directory: runDirectory, name, hidden: true, log });
    try {
      for (const [i, { target, path }] of this.#disks.entries()) {
        const node = `disk${i}`;
        await daemon.openImage({ node, path, format: 'qcow2', readOnly: false, discard: 'unmap' });
        await daemon.exportNode({ node, exportName: target, writable: true });
      }
      await daemon.appear();
      const apply: NbdClient[] = [];
      for (const { target } of this.#disks) {
        const address = { socketPath: daemon.nbdSocket, exportName: target, metaContexts: [BASE_ALLOCATION] };
        apply.push(await NbdClient.connect(address));
      }
      const running = { daemon, apply };
      daemon.onExit((exit) => this.#ended(running, exit));
      for (const client of apply) void client.closed.then(() => this.#lost(running));
      return running;
    } catch (error) {
      await daemon.stop();
      this.#options.onFailed?.();
      throw error;
    }
  }

  /** A connection broke. A daemon that can't be spoken to is of no use: it ends, and is started again when needed. */
  async #lost(running: Running): Promise<void> {
    if (this.#stopped || this.#changing !== undefined || !(await this.#isCurrent(running))) return;
    await running.daemon.stop().catch((error: unknown) => {
      this.#options.log.error({ err: error }, 'the storage daemon of the replica could not be ended');
    });
  }

  #ended(running: Running, exit: Exit): void {
    this.#lastExit = performance.now();
    disconnect(running);
    if (this.#stopped || this.#changing !== undefined) return;
    this.#options.log.error({ exit }, 'the storage daemon of the replica ended; it is started again');
    void this.#isCurrent(running).then((current) => {
      if (current) this.#running = undefined;
    });
  }

  async #isCurrent(running: Running): Promise<boolean> {
    const now = this.#running;
    return now !== undefined && (await now.catch(() => undefined)) === running && this.#running === now;
  }
}

function disconnect(running: Running): void {
  for (const client of running.apply) client.destroy();
}
