/**
 * A clock that nobody sets: time since this machine's boot, with the time that it was suspended, the same for every process on it.
 */
import { readFileSync } from 'node:fs';
import { uptime } from 'node:os';
import type { Clocks } from './clock.ts';

/** Milliseconds since the boot, to about 10 ms (`CLOCK_BOOTTIME`). */
export function bootNow(): number {
  return uptime() * 1000;
}

export const HOST_CLOCKS: Clocks = { now: Date.now, steady: () => performance.now(), boot: bootNow };

/** Names the present boot: another one's times mean nothing. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
