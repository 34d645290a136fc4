/** Stands in for `primary/capture.ts`: reads the two blocks of the model's disk instead of an NBD export. */
import type { ChangedExtent, Extent } from '../../../src/model/extent.ts';
import type { ModelPoint } from '../hypervisor.ts';
import type { ModelWriter } from '../outbox.ts';
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

  async copy(_disk: number, extents: readonly Extent[], writer: ModelWriter): Promise<void> {
    for (const { offset } of extents) writer.add(offset / BLOCK, this.#point.blocks[offset / BLOCK]!);
    writer.content = this.#point.blocks;
  }

  async copyDifferent(_disk: number, from: number, _to: number, theirs: Buffer, writer: ModelWriter) {
    if (from !== 0) throw new Error('the model compares a disk in one slice');
    const different = BLOCKS.filter((block) => theirs.readUInt32BE(16 * block) !== this.#point.blocks[block]);
    for (const block of different) writer.add(block, this.#point.blocks[block]);
    return { compared: BLOCKS.length, different: different.length };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // nothing is held
  }
}
