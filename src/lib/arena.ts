/** Bytes of memory that are taken at once, at least. */
const LEAST = 1024 * 1024;

/**
 * Memory that is handed out piece by piece and used again all at once: large buffers that come and go cost page faults and
 * garbage collection, often more than what is done in them.
 */
export class Arena {
  #memory: Buffer = Buffer.alloc(0);
  #used = 0;

  /** Memory of so many bytes, whatever is in it, for the taker alone until `clear`. */
  take(length: number): Buffer {
    if (this.#used + length > this.#memory.length) {
      // What was handed out of the old memory stays as it is with those who have it.
      this.#memory = Buffer.allocUnsafeSlow(Math.max(LEAST, length, 2 * this.#memory.length));
      this.#used = 0;
    }
    const taken = this.#memory.subarray(this.#used, this.#used + length);
    this.#used += length;
    return taken;
  }

  /** Everything that was handed out is used again from now on. */
  clear(): void {
    this.#used = 0;
  }
}
