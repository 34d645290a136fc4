/** How quiet the machine was: load, and how long the same piece of work took each time. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { summarize, type Summary } from './samples.ts';

const CALIBRATION_BYTES = 64 * 1024 * 1024;
const LOOK_EVERY_MS = 2000;

export interface NoiseReport {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  /** Processes that wanted to run, averaged over a minute, before anything was started. */
  readonly loadAtStart: number;
  /** The same while measuring; the bench itself is part of it. */
  readonly load: Summary;
  /** Seconds for SHA-256 of 64 MiB in one thread, tried before each part while nothing else of the bench ran. */
  readonly calibrationSeconds: Summary;
}

export class Noise {
  readonly #loadAtStart = loadavg()[0]!;
  readonly #loads: number[] = [loadavg()[0]!];
  readonly #calibrations: number[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor() {
    this.#timer = setInterval(() => this.#loads.push(loadavg()[0]!), LOOK_EVERY_MS).unref();
  }

  calibrate(): void {
    const block = Buffer.alloc(CALIBRATION_BYTES, 7);
    const started = performance.now();
    createHash('sha256').update(block).digest();
    this.#calibrations.push((performance.now() - started) / 1000);
  }

  end(): NoiseReport {
    clearInterval(this.#timer);
    this.calibrate();
    return {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: availableParallelism(),
      memoryBytes: totalmem(),
      kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
      loadAtStart: this.#loadAtStart,
      load: summarize(this.#loads),
      calibrationSeconds: summarize(this.#calibrations),
    };
  }
}
