import type { FrameEntry, LogReader } from '../deltalog/reader.ts';

/** Unpacked frames, the latest used ones: reads smaller than a frame come in runs. Concurrent readers share one unpacking. */
export class FrameCache {
  readonly #limit: number;
  readonly #frames = new Map<FrameEntry, Promise<Buffer>>();

  /** @param limit frames kept at most. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  async get(reader: LogReader, frame: FrameEntry): Promise<Buffer> {
    let data = this.#frames.get(frame);
    if (data === undefined) {
      data = reader.data(frame);
      data.catch(() => this.#frames.delete(frame)); // a later reader may have more luck
    } else {
      this.#frames.delete(frame); // to the end: the latest used
    }
    this.#frames.set(frame, data);
    if (this.#frames.size > this.#limit) this.#frames.delete(this.#frames.keys().next().value!);
    return await data;
  }
}
