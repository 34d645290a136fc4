/** Unpacked frames, the latest used ones: reads smaller than a frame come in runs. Concurrent readers share one unpacking. */
export class FrameCache<K, V> {
  readonly #most: number;
  readonly #sizeOf: (value: V) => number;
  readonly #frames = new Map<K, { value: Promise<V>; bytes: number }>();
  #bytes = 0;

  /**
   * @param most bytes kept at most, but always the latest frame.
   * @param sizeOf bytes of a frame.
   */
  constructor(most: number, sizeOf: (value: V) => number) {
    this.#most = most;
    this.#sizeOf = sizeOf;
  }

  /** What is kept under that key, else what `load` gives. It must not be changed. */
  async get(key: K, load: () => Promise<V>): Promise<V> {
    const known = this.#frames.get(key);
    if (known !== undefined) {
      this.#frames.delete(key); // to the end: the latest used
      this.#frames.set(key, known);
      return await known.value;
    }
    const entry = { value: load(), bytes: 0 };
    this.#frames.set(key, entry);
    try {
      entry.bytes = this.#sizeOf(await entry.value);
      this.#bytes += entry.bytes;
      this.#shrink();
    } catch {
      this.#frames.delete(key); // a later reader may have more luck
    }
    return await entry.value;
  }

  #shrink(): void {
    for (const [key, { bytes }] of this.#frames) {
      if (this.#bytes <= this.#most || this.#frames.size === 1) return;
      if (bytes === 0) continue; // under way
      this.#frames.delete(key);
      this.#bytes -= bytes;
    }
  }
}
