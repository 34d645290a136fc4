import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash';

/** Bytes of every digest of ours: BLAKE3, cut to 128 bits. */
export const DIGEST_SIZE = 16;

/** Digest of one piece of memory. */
export function digest(bytes: Buffer): Buffer {
  return blake3(bytes).subarray(0, DIGEST_SIZE);
}

/** Digest of several pieces, as if they were one. */
export function digestOf(...parts: readonly Buffer[]): Buffer {
  const hasher = new Blake3Hasher();
  for (const part of parts) hasher.update(part);
  return hasher.digestBuffer().subarray(0, DIGEST_SIZE);
}

/** A digest that is fed piece by piece. */
export class RunningDigest {
  readonly #hasher = new Blake3Hasher();

  update(bytes: Buffer): void {
    this.#hasher.update(bytes);
  }

  finish(): Buffer {
    return this.#hasher.digestBuffer().subarray(0, DIGEST_SIZE);
  }
}
