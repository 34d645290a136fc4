/** Stands in for `primary/capture.ts`: reads the two blocks of the model's disk instead of an NBD export. */
import type { ChangedExtent } from '../../../src/model/extent.ts';
import type { Work } from '../../../src/primary/work.ts';
import type { KnownPages } from '../../../src/primary/known-blocks.ts';
import { Learning } from '../../../src/primary/learned.ts';
import { digestOfValue } from '../known.ts';
import { lifeAt } from '../stage.ts';
import type { ModelPoint } from '../hypervisor.ts';
import type { ModelLog } from '../outbox.ts';
import { BLOCK, BLOCKS } from '../world.ts';

interface PackOptions {
  readonly onGrown: () => void;
  readonly known: readonly (KnownPages | undefined)[];
}

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

  async pack(items: Iterable<Work>, log: ModelLog, { onGrown, known }: PackOptions) {
    let compared = 0;
    let sameBytes = 0;
    const learning = new Learning();
    const believed = known[0] === undefined ? undefined : lifeAt(known[0].path).here.known?.blocks;
    for (const { extents, theirs } of items) {
      for (const { offset, length } of extents) {
        for (let block = offset / BLOCK; block < (offset + length) / BLOCK; block++) {
          const value = this.#point.blocks[block]!;
          if (theirs !== undefined) {
            compared++;
            if (Buffer.from(theirs.digests).readUInt32BE(16 * (block - theirs.from)) === value) {
              learning.same.add(block, digestOfValue(value));
              continue;
            }
          } else if (believed?.[block] === value) {
            sameBytes += BLOCK;
            continue;
          }
          learning.sent.add(block, digestOfValue(value));
          log.add(block, value);
        }
      }
    }
    log.content = this.#point.blocks;
    if (log.frames > 0) onGrown();
    return { compared, different: log.frames, sameBytes, learned: [[learning.take()]] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // nothing is held
  }
}
