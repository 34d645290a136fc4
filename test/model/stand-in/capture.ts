/** Stands in for `primary/capture.ts`: reads the two blocks of the model's disk instead of an NBD export. */
import type { ChangedExtent } from '../../../src/model/extent.ts';
import type { Work } from '../../../src/primary/work.ts';
import type { ModelPoint } from '../hypervisor.ts';
import type { ModelLog } from '../outbox.ts';
import { BLOCK, BLOCKS } from '../world.ts';

export class PointReader {
  readonly #point: ModelPoint;

  private constructor(point: ModelPoint) {
    this.#point = point;
  }

  static async connect(point: ModelPoint): Promise<PointReader> {
    return new PointReader(point);
  }

  size(): number {
    return BLOCKS.length * BLOCK;
  }

  async changed(): Promise<ChangedExtent[]> {
    const dirty = BLOCKS.filter((block) => this.#point.dirty[block]);
    return dirty.map((block) => ({ offset: block * BLOCK, length: BLOCK, zero: false }));
  }

  async pack(items: Iterable<Work>, log: ModelLog, { onGrown }: { onGrown: () => void }) {
    let compared = 0;
    for (const { extents, theirs } of items) {
      for (const { offset, length } of extents) {
        for (let block = offset / BLOCK; block < (offset + length) / BLOCK; block++) {
          const value = this.#point.blocks[block]!;
          if (theirs !== undefined) {
            compared++;
            if (Buffer.from(theirs.digests).readUInt32BE(16 * (block - theirs.from)) === value) continue;
          }
          log.add(block, value);
        }
      }
    }
    log.content = this.#point.blocks;
    if (log.frames > 0) onGrown();
    return { compared, different: log.frames, sameBytes: 0, learned: [] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // nothing is held
  }
}
