/**
 * How far the clocks of the peers are from this host's. Kept against this host's boot clock, which nobody sets: so what is known stays true
 * when somebody sets this host's clock, and is measured again soon after somebody has set the other one.
 */
import { sleep, type Clocks } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { asFailure } from '../model/failure.ts';
import { SKEW_LIMIT_MS } from '../model/lag.ts';
import type { Severity, Store } from '../store/store.ts';
import { Rounds } from './rounds.ts';

export interface PeerClocksOptions {
  readonly clocks: Clocks;
  readonly store: Pick<Store, 'relationships'>;
  /** The peer's clock minus this host's, ms. */
  readonly measure: (peer: string) => Promise<{ readonly skewMs: number }>;
  readonly event: (severity: Severity, kind: string, message: string) => void;
  readonly log: Log;
}

const EVERY_MS = 20_000;

export class PeerClocks {
  readonly #options: PeerClocksOptions;
  /** A peer's clock minus this host's boot clock, ms. */
  readonly #offsets = new Map<string, number>();
  readonly #skewed = new Set<string>();
  /** A peer that doesn't answer keeps no round waiting. */
  readonly #rounds = new Rounds(EVERY_MS, (signal) =>
    Promise.race([this.look(), sleep(EVERY_MS, signal).catch(() => undefined)]),
  );

  constructor(options: PeerClocksOptions) {
    this.#options = options;
  }

  begin(): void {
    this.#rounds.begin();
  }

  async close(): Promise<void> {
    await this.#rounds.close();
  }

  /** What a peer's clock shows minus what the boot clock does, ms; undefined: it hasn't answered yet. */
  offset(peer: string): number | undefined {
    return this.#offsets.get(peer);
  }

  /** The peer's clock minus this host's, ms; null: not known. */
  skewMs(peer: string): number | null {
    const { boot, now } = this.#options.clocks;
    const offset = this.#offsets.get(peer);
    return offset === undefined ? null : Math.round(offset + boot() - now());
  }

  /** Asks each peer that there is a relationship with. */
  async look(): Promise<void> {
    const peers = new Set(this.#options.store.relationships().map(({ peer }) => peer));
    await Promise.all([...peers].map((peer) => this.#measure(peer)));
  }

  async #measure(peer: string): Promise<void> {
    const { clocks, measure, event, log } = this.#options;
    try {
      const { skewMs } = await measure(peer);
      this.#offsets.set(peer, skewMs + clocks.now() - clocks.boot());
      const isSkewed = Math.abs(skewMs) > SKEW_LIMIT_MS;
      if (isSkewed === this.#skewed.has(peer)) return;
      if (isSkewed) this.#skewed.add(peer);
      else this.#skewed.delete(peer);
      const seconds = Math.round(Math.abs(skewMs) / 1000);
      const apart = `the clock of ${peer} is ${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} this host's: recovery points carry the time of the primary`;
      if (isSkewed) event('warning', 'clock-skew', apart);
      else event('info', 'clock-skew-gone', `the clock of ${peer} agrees with this host's again`);
    } catch (error) {
      log.debug({ err: asFailure(error), peer }, 'the clock of the peer could not be asked');
    }
  }
}
