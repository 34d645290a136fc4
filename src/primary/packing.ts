/** The level at which lanes pack a log, moved on as the log grows. */
import { availableParallelism } from 'node:os';
import { levelFor, LEVELS, type Compression } from '../model/compression.ts';
import type { Replication } from './replication.ts';
import { lanesFor } from './work.ts';

/** The level is looked at this often, ms. */
const LOOK_EVERY_MS = 100;

export interface PackingOptions {
  /** About how much data there is, bytes. */
  readonly bytes: number;
  /** It is packed once more before it is sent. */
  readonly thins: boolean;
  /** See `Packing`. */
  readonly patienceMs: number;
}

export class PackingLevel {
  /** The level, one 32-bit number, for all lanes. */
  readonly shared = new SharedArrayBuffer(4);
  readonly #level = new Int32Array(this.shared);
  readonly #replication: Replication;
  readonly #options: PackingOptions;
  readonly #moves: boolean;
  readonly #began = performance.now();
  readonly #cpuBefore = process.cpuUsage();
  #looked = 0;

  constructor(replication: Replication, options: PackingOptions) {
    const { compression } = replication.services;
    this.#replication = replication;
    this.#options = options;
    this.#moves = compression === 'auto' && !options.thins;
    this.#level[0] = firstLevel(compression);
  }

  /** The log has grown. @param written bytes of it so far. */
  look(written: number): void {
    const ms = performance.now() - this.#began;
    if (!this.#moves || ms - this.#looked < LOOK_EVERY_MS) return;
    this.#looked = ms;
    const { sent, resent } = this.#replication.activity.send;
    const { linkSpeed } = this.#replication.record.statistics;
    const { bytes, patienceMs } = this.#options;
    const cpus = Math.min(availableParallelism(), lanesFor(this.#replication.services.lanes.count, bytes));
    const { user, system } = process.cpuUsage(this.#cpuBefore);
    const busy = (user + system) / 1000 / ms / cpus;
    const packing = { ms, written, sent: sent - resent, linkSpeed, busy, patienceMs };
    Atomics.store(this.#level, 0, levelFor(Atomics.load(this.#level, 0), packing));
  }
}

function firstLevel(compression: Compression): number {
  if (compression === 'auto') return LEVELS.fast;
  return compression === 'none' ? LEVELS.plain : compression;
}
