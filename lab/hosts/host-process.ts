import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { type ProcessIdentity, identify, signalProcess } from './process-identity.ts';

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface SpawnOptions {
  /** Default: nothing in, nothing out. */
  readonly stdio?: StdioOptions;
  /** Added to the host's plain environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A program running in an isolated host. Signals reach the program itself, not what carried it into the host. */
export class HostProcess {
  /** Its standard streams. Its pid is the carrier's: use `signal`. */
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  readonly #name: string;
  #identity: ProcessIdentity | undefined;
  #end: Ended | undefined;

  constructor(argv: readonly string[], name: string, options: { stdio: StdioOptions; env: Record<string, string> }) {
    this.#name = name;
    // A session of its own: Ctrl-C at the creator's terminal doesn't reach another "machine".
    this.child = spawn(argv[0]!, argv.slice(1), { ...options, cwd: '/', detached: true });
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', (error) =>
        reject(new Failure('missing-program', `${name}: ${error.message}`, { cause: error })),
      );
      this.child.once('exit', (code, signal) => {
        this.#end = { code, signal };
        resolve(this.#end);
      });
    });
    this.ended.catch(() => undefined); // told to whoever awaits it
  }

  get running(): boolean {
    return this.#end === undefined;
  }

  /** The program as the machine sees it. Failure `internal` when it has ended already. */
  async identity(): Promise<ProcessIdentity> {
    const carrier = this.child.pid;
    if (carrier === undefined) {
      await this.ended;
      throw new Failure('internal', `${this.#name} was never started`);
    }
    await until(
      () => {
        if (this.#identity === undefined && this.running) this.#identity = firstChild(carrier);
        return this.#identity !== undefined || !this.running;
      },
      {
        timeoutMs: 10_000,
        everyMs: 2,
        onTimeout: () => new Failure('timeout', `${this.#name} does not start`),
      },
    );
    if (this.#identity === undefined) throw new Failure('internal', `${this.#name} has ended`);
    return this.#identity;
  }

  /** Sends a signal to the program; false when it has ended. */
  async signal(signal: NodeJS.Signals): Promise<boolean> {
    if (!this.running) return false;
    try {
      return signalProcess(await this.identity(), signal);
    } catch (error) {
      if (!this.running) return false;
      throw error;
    }
  }

  /** Lets the creator end while the program goes on. */
  unref(): void {
    this.child.unref();
  }
}

function firstChild(pid: number): ProcessIdentity | undefined {
  let children: string;
  try {
    children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
  const [first] = children.trim().split(' ');
  return first ? identify(Number(first)) : undefined;
}
