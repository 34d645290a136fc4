const SMALLEST = 4096;

/**
 * Buffers that are used again: large ones that come and go would cost the kernel's zeroing of fresh pages and the
 * collector's time. Sizes are rounded up to powers of two.
 */
export class BufferPool {
  readonly #most: number;
  readonly #free = new Map<number, Buffer[]>();
  #bytes = 0;

  /** @param most bytes that are kept while nobody uses them. */
  constructor(most: number) {
    this.#most = most;
  }

  /** A buffer of exactly `length` bytes, with anything in it. */
  take(length: number): Buffer {
    const size = sizeFor(length);
    const buffer = this.#free.get(size)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(size).subarray(0, length);
    this.#bytes -= size;
    return buffer.subarray(0, length);
  }

  /** Takes back what `take` gave; whoever still holds it must not look at it any more. */
  give(buffer: Buffer): void {
    const size = buffer.buffer.byteLength;
    if (this.#bytes + size > this.#most) return;
    const whole = Buffer.from(buffer.buffer, 0, size);
    const free = this.#free.get(size);
    if (free === undefined) this.#free.set(size, [whole]);
    else free.push(whole);
    this.#bytes += size;
  }
}

function sizeFor(length: number): number {
  return Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(length)));
}
