/** The level at which lanes pack a log, moved on as the log grows. */
import { availableParallelism } from 'node:os';
import { levelFor, LEVELS, type Compression } from '../model/compression.ts';
import type { Replication } from './replication.ts';
import { lanesFor } from './work.ts';

/** The level is looked at this often, ms. */
const LOOK_EVERY_MS = 100;

export interface PackingOptions {
  readonly compression: Compression;
  /** It is packed once more before it is sent. */
  readonly thins: boolean;
  /** Lanes that pack it. */
  readonly lanes: number;
  /** See `Packing`. */
  readonly linkSpeed: number | null;
  readonly patienceMs: number;
  /** Bytes of it that have been handed to the network. */
  readonly sent: () => number;
}

export class PackingLevel {
  /** The level, one 32-bit number, for all lanes. */
  readonly shared = new SharedArrayBuffer(4);
  readonly #level = new Int32Array(this.shared);
  readonly #options: PackingOptions;
  readonly #now: () => number;
  readonly #began: number;
  readonly #cpuBefore = process.cpuUsage();
  #looked = 0;

  constructor(options: PackingOptions, now: () => number = () => performance.now()) {
    this.#options = options;
    this.#now = now;
    this.#began = now();
    this.#level[0] = firstLevel(options.compression);
  }

  /** @param bytes about how much data there is. */
  static of(
    replication: Replication,
    { bytes, ...options }: Pick<PackingOptions, 'thins' | 'patienceMs'> & { readonly bytes: number },
  ): PackingLevel {
    const { compression, lanes } = replication.services;
    return new PackingLevel({
      ...options,
      compression,
      lanes: lanesFor(lanes.count, bytes),
      linkSpeed: replication.record.statistics.linkSpeed,
      sent: () => replication.activity.send.sent - replication.activity.send.resent,
    });
  }

  /** The log has grown. @param written bytes of it so far. */
  look(written: number): void {
    const { compression, thins, lanes, linkSpeed, patienceMs, sent } = this.#options;
    const ms = this.#now() - this.#began;
    if (compression !== 'auto' || thins || ms - this.#looked < LOOK_EVERY_MS) return;
    this.#looked = ms;
    const { user, system } = process.cpuUsage(this.#cpuBefore);
    const busy = (user + system) / 1000 / ms / Math.min(availableParallelism(), lanes);
    const packing = { ms, written, sent: sent(), linkSpeed, busy, patienceMs };
    Atomics.store(this.#level, 0, levelFor(Atomics.load(this.#level, 0), packing));
  }
}

function firstLevel(compression: Compression): number {
  if (compression === 'auto') return LEVELS.fast;
  return compression === 'none' ? LEVELS.plain : compression;
}
