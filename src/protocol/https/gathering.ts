/** Memory for what arrives before anybody knows how much it will be, bytes. */
const FIRST_BLOCK = 64 * 1024;

/**
 * Puts what arrives in the small pieces of TLS (16 KiB) into few large blocks: while a piece is still in the processor's
 * cache, a copy costs a fifteenth of what hashing and writing save by it. Blocks are used again.
 */
export class Gathering {
  #full: Buffer[] = [];
  #free: Buffer[] = [];
  #lent: Buffer[] = [];
  #block: Buffer = Buffer.allocUnsafeSlow(FIRST_BLOCK);
  #used = 0;
  readonly #blockSize: number;
  /** Bytes gathered and not taken. */
  size = 0;

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
  }

  add(piece: Uint8Array): void {
    for (let at = 0; at < piece.length;) {
      if (this.#used === this.#block.length) this.#begin();
      const part = piece.subarray(at, at + this.#block.length - this.#used);
      this.#block.set(part, this.#used);
      this.#used += part.length;
      at += part.length;
    }
    this.size += piece.length;
  }

  /** All that was gathered. Its memory is used again from the next `take` on. */
  take(): Buffer[] {
    this.#free.push(...this.#lent);
    const taken = [...this.#full, this.#block.subarray(0, this.#used)];
    this.#lent = [...this.#full, this.#block].filter(({ length }) => length === this.#blockSize);
    this.#full = [];
    this.#next();
    this.size = 0;
    return taken;
  }

  #begin(): void {
    this.#full.push(this.#block);
    this.#next();
  }

  #next(): void {
    this.#block = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#blockSize);
    this.#used = 0;
  }
}
