import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../src/model/failure.ts';
import { until } from '../../src/lib/clock.ts';
import { type ProcessIdentity, bootId, isAlive, parseStat, signalProcess } from './process-identity.ts';

export type NamespaceKind = 'net' | 'mount' | 'uts' | 'ipc' | 'pid';

const START_TIMEOUT_MS = 20_000;
const DEATH_TIMEOUT_MS = 20_000;

/**
 * A set of Linux namespaces held by one process, its init. They have no names on the machine: when the init dies
 * (and with it, in a pid namespace, all others), nothing is left of them.
 */
export class Namespace {
  readonly init: ProcessIdentity;
  readonly #kinds: readonly NamespaceKind[];

  private constructor(init: ProcessIdentity, kinds: readonly NamespaceKind[]) {
    this.init = init;
    this.#kinds = kinds;
  }

  /**
   * Starts `script directory ...args` as the first process of new namespaces and waits until it has made
   * `directory/ready`. The script writes its /proc/self/stat, as the machine sees it, to `directory/init.stat` first.
   */
  static async start(
    kinds: readonly NamespaceKind[],
    script: string,
    directory: string,
    args: readonly string[] = [],
  ): Promise<Namespace> {
    mkdirSync(directory, { recursive: true });
    for (const name of ['ready', 'init.stat']) rmSync(join(directory, name), { force: true });
    const output = openSync(join(directory, 'init.log'), 'a');
    const child = spawn(
      'unshare',
      [...kinds.map((kind) => `--${kind}`), '--fork', '--', 'sh', script, directory, ...args],
      { stdio: ['ignore', output, output], detached: true, cwd: '/' },
    );
    closeSync(output);
    child.unref();
    let ended: string | undefined;
    child.once('error', (error) => (ended = error.message));
    child.once('exit', (code, signal) => (ended = `ended with ${signal ?? code}`));
    const fail = (why: string) =>
      new Failure(
        'internal',
        `namespaces of ${directory}: ${why}: ${readFileSync(join(directory, 'init.log'), 'utf8')}`,
        {
          hint: 'Labs need root and a kernel that allows new namespaces (in a container: --privileged).',
        },
      );
    await until(() => ended !== undefined || existsSync(join(directory, 'ready')), {
      timeoutMs: START_TIMEOUT_MS,
      everyMs: 5,
      onTimeout: () => fail('not ready in time'),
    });
    if (ended !== undefined) throw fail(ended);
    const init = readInit(directory);
    if (init === undefined) throw fail('no init.stat');
    return new Namespace(init, kinds);
  }

  /** The namespaces that an earlier `start` left in `directory`, if their init is alive. */
  static find(kinds: readonly NamespaceKind[], directory: string): Namespace | undefined {
    const init = readInit(directory);
    return init !== undefined && isAlive(init) ? new Namespace(init, kinds) : undefined;
  }

  get alive(): boolean {
    return isAlive(this.init);
  }

  /** argv that runs `argv` inside. The program started is nsenter; in a pid namespace the real one is its child. */
  enter(argv: readonly string[], only: readonly NamespaceKind[] = this.#kinds): string[] {
    return ['nsenter', '-t', String(this.init.pid), ...only.map((kind) => `--${kind}`), '--', ...argv];
  }

  /** Kills the init and waits until it, and what the kernel kills with it, is gone. */
  async kill(): Promise<void> {
    if (!signalProcess(this.init, 'SIGKILL')) return;
    await until(() => !this.alive, {
      timeoutMs: DEATH_TIMEOUT_MS,
      everyMs: 5,
      onTimeout: () => new Failure('timeout', `process ${this.init.pid} does not die`),
    });
  }
}

function readInit(directory: string): ProcessIdentity | undefined {
  const file = join(directory, 'init.stat');
  const stat = existsSync(file) ? parseStat(readFileSync(file, 'utf8')) : undefined;
  return stat && { pid: stat.pid, startTime: stat.startTime, bootId: bootId() };
}
