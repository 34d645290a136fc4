/** understudyd as an administrator runs it, on a port of this machine, with disks of its own instead of guests. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { createClient, type Client } from '../../src/cli/client.ts';
import type { ConfigFile } from '../../src/daemon/config/options.ts';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';

const START_TIMEOUT_MS = 120_000;

export interface DaemonPlace {
  readonly name: string;
  /** The built daemon. */
  readonly program: string;
  /** For disks, logs and the database. */
  readonly data: string;
  /** For sockets: a short path. */
  readonly run: string;
}

export class BenchDaemon {
  readonly place: DaemonPlace;
  readonly port: number;
  readonly client: Client;
  #child: ChildProcess | undefined;

  private constructor(place: DaemonPlace, port: number) {
    this.place = place;
    this.port = port;
    this.client = createClient(join(place.run, 'api.sock'));
  }

  /** @param ports its own, and the one that peers are given, of a proxy before it. */
  static prepare(place: DaemonPlace, config: ConfigFile, ports: { own: number; advertised: number }): BenchDaemon {
    const { name, data, run } = place;
    mkdirSync(join(data, 'vms'), { recursive: true });
    mkdirSync(run, { recursive: true });
    const port = ports.own;
    const whole: ConfigFile = {
      name,
      listen: { address: '127.0.0.1', port },
      advertise: `127.0.0.1:${ports.advertised}`,
      socket: join(run, 'api.sock'),
      stateDirectory: data,
      runDirectory: run,
      pointDirectory: join(run, 'points'),
      hypervisor: 'qsd',
      logLevel: 'info',
      ...config,
    };
    writeFileSync(join(data, 'understudyd.yaml'), stringify(whole));
    return new BenchDaemon(place, port);
  }

  get pid(): number {
    if (this.#child?.pid === undefined)
      throw new Failure('wrong-state', `understudyd ${this.place.name} is not started`);
    return this.#child.pid;
  }

  get running(): boolean {
    const child = this.#child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** @param environment besides this process's own. */
  async start(environment: Readonly<Record<string, string>> = {}): Promise<void> {
    const log = openSync(this.#logFile, 'a');
    const child = spawn(
      process.execPath,
      ['--enable-source-maps', this.place.program, '--config', join(this.place.data, 'understudyd.yaml')],
      {
        stdio: ['ignore', log, log],
        env: { ...process.env, ...environment },
      },
    );
    closeSync(log);
    await once(child, 'spawn'); // or its error
    this.#child = child;
    await until(() => !this.running || this.#answers(), {
      timeoutMs: START_TIMEOUT_MS,
      everyMs: 20,
      onTimeout: () => new Failure('timeout', `understudyd ${this.place.name} does not answer:\n${this.lastWords(10)}`),
    });
    if (!this.running) {
      throw new Failure('internal', `understudyd ${this.place.name} ended at its start:\n${this.lastWords(10)}`);
    }
  }

  /** The last lines of its log. */
  lastWords(lines: number): string {
    return readFileSync(this.#logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  /** kill -9; nothing if it has ended already. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }

  get #logFile(): string {
    return join(this.place.data, 'understudyd.log');
  }

  async #answers(): Promise<boolean> {
    try {
      await this.client.call('daemonStatus', {});
      return true;
    } catch (error) {
      if (error instanceof Failure && error.code === 'unreachable') return false;
      throw error;
    }
  }
}

/** A port on which nobody listens now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Failure('internal', 'no port was given');
  return address.port;
}
