/** Bytes and places that look random and are the same each time. */
import { createCipheriv } from 'node:crypto';

/** Fills `target` with what no packer makes smaller; another `mark`, other bytes. */
export function fillRandom(target: Uint8Array, mark: number): void {
  const key = Buffer.alloc(16);
  key.writeDoubleLE(mark, 0);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  target.set(cipher.update(Buffer.alloc(target.length)));
}

/** Integers in [0, below), the same for the same seed (mulberry32). */
export function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
