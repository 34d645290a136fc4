/** What people write on the command line. */
import { InvalidArgumentError } from 'commander';

/** What names a relationship. */
export const REF = 'VM (name or id) or id of the relationship';

/** Of an option `--damaged`. */
export const DAMAGED = 'also from a recovery point that is known to hold damaged bytes, as it is';

/** Reads a whole number from the command line. */
export function readInteger(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

const SECONDS: Record<string, number> = { '': 1, s: 1, m: 60, min: 60, h: 3600 };

/** Reads `30`, `30s`, `5m`, `1h` as seconds. */
export function readSeconds(text: string): number {
  const match = /^(\d+)\s*(s|m|min|h|)$/.exec(text);
  if (match === null) throw new InvalidArgumentError('It must be seconds, or a time such as 30s, 5m or 1h.');
  return Number(match[1]) * SECONDS[match[2] ?? '']!;
}

const BYTES: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Reads `50MiB`, `1.5 GiB`, `64k` as bytes. */
export function readSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/i.exec(text);
  if (match === null) throw new InvalidArgumentError('It must be a size such as 50MiB or 1.5GiB.');
  return Math.round(Number(match[1]) * BYTES[match[2]!.toLowerCase()]!);
}

/** Gathers an option that may be given several times. */
export function readSeveral(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}
