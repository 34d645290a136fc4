import { mkdirSync, writeFileSync, closeSync, openSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { createClient, type Client } from '../../src/cli/client.ts';
import type { Request, Result } from '../../src/api/contract.ts';
import type { ConfigFile } from '../../src/daemon/config/options.ts';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import type { LabHost } from '../hosts/host.ts';
import type { HostProcess } from '../hosts/host-process.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/understudyd', import.meta.url));
const CLI = fileURLToPath(new URL('../../bin/understudy', import.meta.url));
const CONFIG = '/etc/understudy/understudyd.yaml';
const SOCKET = '/run/understudy/understudyd.sock';
const LOG = '/var/log/understudyd.log';
const START_TIMEOUT_MS = 20_000;
const DEATH_TIMEOUT_MS = 60_000;

type Action = Result<'actionShow'>;
type Replication = Result<'replicationShow'>;
type FailoverCall =
  | 'testFailoverStart'
  | 'testFailoverStop'
  | 'unplannedFailover'
  | 'cancelFailover'
  | 'completeFailover'
  | 'plannedFailover'
  | 'reverseReplication'
  | 'pointExport';

/** understudyd on a lab host, as installed: its configuration in /etc, its socket in /run, its state in /var. */
export class HostDaemon {
  readonly host: LabHost;
  readonly client: Client;
  #process: HostProcess | undefined;

  constructor(host: LabHost, config: ConfigFile = {}) {
    this.host = host;
    this.client = createClient(host.path(SOCKET));
    mkdirSync(host.path('/etc/understudy'), { recursive: true });
    const advertise = `${host.address}:7443`;
    writeFileSync(host.path(CONFIG), stringify({ logLevel: 'debug', ...config, advertise }));
  }

  /** What a person types to run the CLI against this daemon from outside. */
  get cliCommand(): string {
    return `${CLI} --socket ${this.socketPath}`;
  }

  get socketPath(): string {
    return this.host.path(SOCKET);
  }

  get logFile(): string {
    return this.host.path(LOG);
  }

  /** The end of its log, for a failure's message. */
  lastWords(lines = 15): string {
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  /** Starts it and waits until it answers. */
  async start(): Promise<void> {
    const program = this.#launch({});
    let ended: unknown;
    void program.ended.then((exit) => (ended = exit));
    await until(() => ended !== undefined || this.answers(), {
      timeoutMs: START_TIMEOUT_MS,
      onTimeout: () => new Failure('timeout', `understudyd of ${this.host.name} does not answer:\n${this.lastWords()}`),
    });
    if (ended !== undefined) {
      throw new Failure('internal', `understudyd of ${this.host.name} ended at its start:\n${this.lastWords()}`);
    }
  }

  /** Starts it so that it dies by SIGKILL at a crash point, and waits until it has. Any other end is a Failure. */
  async startToDieAt(point: string, timeoutMs = DEATH_TIMEOUT_MS): Promise<void> {
    const program = this.#launch({ UNDERSTUDY_CRASH: point });
    const timer = setTimeout(() => void program.signal('SIGTERM'), timeoutMs);
    const { code, signal } = await program.ended;
    clearTimeout(timer);
    if (signal === 'SIGKILL') return;
    throw new Failure(
      'internal',
      `understudyd of ${this.host.name} ended with ${code ?? signal}, not at ${point}:\n${this.lastWords()}`,
    );
  }

  #launch(env: Record<string, string>): HostProcess {
    const log = openSync(this.logFile, 'a');
    try {
      this.#process = this.host.spawn([PROGRAM, '--config', CONFIG], { stdio: ['ignore', log, log], env });
      return this.#process;
    } finally {
      closeSync(log);
    }
  }

  async answers(): Promise<boolean> {
    try {
      await this.client.call('daemonStatus', {});
      return true;
    } catch (error) {
      if (error instanceof Failure && error.code === 'unreachable') return false;
      throw error;
    }
  }

  /** As this machine sees it, while it runs. */
  async pid(): Promise<number> {
    if (this.#process === undefined) throw new Failure('unreachable', `understudyd of ${this.host.name} does not run`);
    return (await this.#process.identity()).pid;
  }

  /** SIGTERM, and waits for its end. */
  async stop(): Promise<void> {
    await this.#process?.signal('SIGTERM');
    await this.#process?.ended;
    this.#process = undefined;
  }

  /** kill -9, and waits until it is gone. */
  async kill(): Promise<void> {
    await this.#process?.signal('SIGKILL');
    await this.#process?.ended;
    this.#process = undefined;
  }

  /** Pairs with another daemon, by a token of that one. */
  async pairWith(other: HostDaemon): Promise<void> {
    const { token } = await other.client.call('peerToken', {});
    await this.client.call('peerJoin', { token });
  }

  show(ref: string): Promise<Replication> {
    return this.client.call('replicationShow', { ref });
  }

  /** Waits until a relationship is as wanted; gives it. */
  async waitFor(
    ref: string,
    what: string,
    wanted: (view: Replication) => boolean,
    timeoutMs = 60_000,
  ): Promise<Replication> {
    let last: Replication | undefined;
    await until(
      async () => {
        last = await this.show(ref);
        return wanted(last);
      },
      {
        timeoutMs,
        everyMs: 50,
        onTimeout: () =>
          new Failure(
            'timeout',
            `${this.host.name}: ${ref} was not ${what} in ${timeoutMs} ms: ${JSON.stringify(last)}\n${this.lastWords()}`,
          ),
      },
    );
    return last!;
  }

  /** Begins an action and waits for its end. Throws what undid it. */
  async act<N extends FailoverCall>(
    name: N,
    request: Request<N>,
    onStep: (action: Action) => void = () => undefined,
  ): Promise<Action> {
    const begun = await this.client.call(name, request);
    let last: Action = begun as Action;
    for await (const action of this.client.stream('actionWatch', { action: last.id })) {
      last = action;
      onStep(action);
    }
    if (last.state === 'done') return last;
    throw last.failure === null
      ? new Failure('internal', `${last.kind} on ${this.host.name} is ${last.state}: ${JSON.stringify(last)}`)
      : Failure.fromJson(last.failure);
  }
}
