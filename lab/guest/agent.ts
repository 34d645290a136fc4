import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import type { LabHost } from '../hosts/host.ts';

export interface GuestExecuted {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const CALL_TIMEOUT_S = 10;
const BOOT_TIMEOUT_MS = 90_000;
/** An agent that doesn't answer after this isn't about to come, but lost to libvirt. */
const LOST_MS = 40_000;
const EXEC_TIMEOUT_MS = 30_000;

/** The guest agent of a domain on a lab host, by way of virsh. Every call has an end. */
export class GuestAgent {
  readonly #host: LabHost;
  readonly #domain: string;

  constructor(host: LabHost, domain: string) {
    this.#host = host;
    this.#domain = domain;
  }

  /** One call of the agent's protocol; gives its `return`. */
  async call(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    const request = JSON.stringify(args === undefined ? { execute: command } : { execute: command, arguments: args });
    const timeout = String(CALL_TIMEOUT_S);
    const answer = await this.#host.virsh('qemu-agent-command', '--timeout', timeout, this.#domain, request);
    return (JSON.parse(answer) as { return: unknown }).return;
  }

  async ping(): Promise<boolean> {
    try {
      await this.call('guest-ping');
      return true;
    } catch (error) {
      if (error instanceof Failure && error.code === 'libvirt') return false; // not connected, not running, no answer
      throw error;
    }
  }

  /**
   * Waits for the guest to be up: TCG boots take seconds. When an agent comes up while a backup job is open, libvirt may wait 30 s for the
   * job, give up, and know nothing of the agent until it is started again: then that is done, once, and said.
   */
  async wait(timeoutMs = BOOT_TIMEOUT_MS): Promise<void> {
    const began = performance.now();
    let again = false;
    const answers = async (): Promise<boolean> => {
      if (await this.ping()) return true;
      if (!again && performance.now() - began > LOST_MS) {
        again = true;
        console.log(`libvirtd of ${this.#host.name} has lost the agent of ${this.#domain}, and is started again`);
        await this.#host.stopLibvirtd();
        await this.#host.startLibvirtd();
      }
      return false;
    };
    await until(answers, {
      timeoutMs,
      everyMs: 100,
      onTimeout: () =>
        new Failure('timeout', `the agent of ${this.#domain} on ${this.#host.name} did not answer in ${timeoutMs} ms`),
    });
  }

  /** Runs a program in the guest and waits for its end. */
  async exec(argv: readonly string[], timeoutMs = EXEC_TIMEOUT_MS): Promise<GuestExecuted> {
    const started = (await this.call('guest-exec', {
      path: argv[0],
      arg: argv.slice(1),
      'capture-output': true,
      env: ['PATH=/bin'],
    })) as { pid: number };
    let status: { exited: boolean; exitcode?: number; signal?: number; 'out-data'?: string; 'err-data'?: string };
    await until(
      async () => {
        status = (await this.call('guest-exec-status', { pid: started.pid })) as typeof status;
        return status.exited;
      },
      {
        timeoutMs,
        onTimeout: () => new Failure('timeout', `${argv.join(' ')} in ${this.#domain}: not done in ${timeoutMs} ms`),
      },
    );
    const text = (data: string | undefined) => Buffer.from(data ?? '', 'base64').toString();
    const { exitcode, signal, 'out-data': out, 'err-data': err } = status!;
    return { code: exitcode ?? 128 + (signal ?? 0), stdout: text(out), stderr: text(err) };
  }

  /** A whole file of the guest. */
  async readFile(path: string): Promise<Buffer> {
    const handle = await this.call('guest-file-open', { path, mode: 'r' });
    try {
      const parts: Buffer[] = [];
      for (;;) {
        const part = (await this.call('guest-file-read', { handle, count: 1 << 20 })) as {
          'buf-b64': string;
          eof: boolean;
        };
        parts.push(Buffer.from(part['buf-b64'], 'base64'));
        if (part.eof) return Buffer.concat(parts);
      }
    } finally {
      await this.call('guest-file-close', { handle });
    }
  }
}
