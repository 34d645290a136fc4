/** A link as it is outside of laboratories, between two daemons: long, narrow, with a window. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface LinkOptions {
  /** One way, ms. */
  readonly delayMs: number;
  /** Each way, all connections together; null: as fast as it goes. */
  readonly bytesPerSecond: number | null;
  /** Most that one connection has under way in one direction. */
  readonly inFlightBytes: number;
}

/** What the proxy is told. */
export interface Instruction {
  readonly to: number;
  readonly options: LinkOptions;
}

/** What the proxy answers. */
export interface LinkReport {
  readonly port: number;
  readonly bytesThere: number;
  readonly bytesBack: number;
  readonly connections: number;
}

const PROXY = fileURLToPath(new URL('proxy.ts', import.meta.url));

/** As if there were none. */
export const NO_LIMIT: LinkOptions = { delayMs: 0, bytesPerSecond: null, inFlightBytes: 16 * 2 ** 20 };

export const mbit = (megabits: number): number => (megabits * 1e6) / 8;

export class Link {
  readonly port: number;
  readonly #to: number;
  readonly #process: ChildProcess;

  private constructor(child: ChildProcess, to: number, port: number) {
    this.#process = child;
    this.#to = to;
    this.port = port;
  }

  /** @param to port on this machine that it leads to. */
  static async open(to: number, options: LinkOptions): Promise<Link> {
    const child = fork(PROXY, { stdio: 'inherit' });
    const { port } = await tell(child, { to, options });
    return new Link(child, to, port);
  }

  /** Changes the link from now on; gives what has gone over it. */
  async set(options: LinkOptions): Promise<LinkReport> {
    return await tell(this.#process, { to: this.#to, options });
  }

  async close(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.disconnect();
    await ended;
  }
}

async function tell(child: ChildProcess, instruction: Instruction): Promise<LinkReport> {
  const answered = once(child, 'message');
  child.send(instruction);
  const [report] = (await answered) as [LinkReport];
  return report;
}
