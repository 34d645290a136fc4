/** Sees every cycle of whichever host is the primary, through its API. */
import { sleep, until } from '../src/lib/clock.ts';
import { Failure } from '../src/model/failure.ts';
import type { HostDaemon } from '../lab/daemons/host-daemon.ts';
import type { Cycle } from './report.ts';

const POLL_MS = 200;

export class CycleWatch {
  readonly cycles: Cycle[] = [];
  /** Told of each, as it is seen. */
  onCycle: (cycle: Cycle) => void = () => undefined;
  readonly #vm: string;
  #stop = new AbortController();
  #watching: Promise<void> | undefined;

  constructor(vm: string) {
    this.#vm = vm;
  }

  /** From now on this daemon's. */
  async follow(daemon: HostDaemon): Promise<void> {
    await this.stop();
    this.#stop = new AbortController();
    this.#watching = this.#watch(daemon, this.#stop.signal);
    this.#watching.catch(() => undefined); // `stop` tells
  }

  /** Throws what ended the watching early. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#watching;
    this.#watching = undefined;
  }

  /** Waits until `count` more have been seen. */
  async more(count: number, timeoutMs = 60_000): Promise<void> {
    const wanted = this.cycles.length + count;
    await until(() => this.cycles.length >= wanted, {
      timeoutMs,
      onTimeout: () =>
        new Failure('timeout', `no further cycle of ${this.#vm} in ${timeoutMs} ms (waiting for ${count})`),
    });
  }

  async #watch(daemon: HostDaemon, signal: AbortSignal): Promise<void> {
    let count: number | undefined;
    let lag = 0;
    while (!signal.aborted) {
      const view = await daemon.show(this.#vm).catch((error: unknown) => {
        // its host was killed, and it with it
        if (error instanceof Failure && (error.code === 'unreachable' || error.code === 'interrupted'))
          return undefined;
        throw error;
      });
      if (view !== undefined) {
        const { statistics, position, lagMs } = view;
        const now = statistics.cycles + statistics.idleCycles;
        if (count !== undefined && now > count) {
          const idle = statistics.lastChangedBytes === 0;
          const cycle: Cycle = {
            host: daemon.host.name,
            sequence: position.sequence,
            changedBytes: idle ? 0 : statistics.lastChangedBytes,
            sentBytes: idle ? 0 : statistics.lastSentBytes,
            jobMs: statistics.lastJobMs,
            cycleMs: statistics.lastCycleMs,
            lagBeforeMs: lag,
            lagAfterMs: lagMs ?? 0,
            seenAt: Date.now(),
          };
          this.cycles.push(cycle);
          lag = 0;
          this.onCycle(cycle);
        }
        count = now;
        lag = Math.max(lag, lagMs ?? 0);
      }
      await sleep(POLL_MS);
    }
  }
}
