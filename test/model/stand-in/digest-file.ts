/**
 * Stands in for `digests/digest-file.ts` where the primary keeps what it knows of the replica: a file in the explored world, whose
 * header and pages are as they were written, and after a power loss as they were synced, or not.
 */
import type { Subject } from '../../../src/digests/digest-file.ts';
import type { BlockRange, DigestRun } from '../../../src/digests/digest-pages.ts';
import { DIGEST_SIZE } from '../../../src/lib/digest.ts';
import { knownValue } from '../known.ts';
import type { Life } from '../run.ts';
import { lifeAt } from '../stage.ts';
import type { KnownWorld } from '../world.ts';

export class DigestFile<A> {
  readonly path: string;
  readonly id = '';
  readonly #life: Life;

  private constructor(path: string, life: Life) {
    this.path = path;
    this.#life = life;
  }

  static async open<A>(path: string, _options: { size: number }, subject: Subject<A>): Promise<DigestFile<A>> {
    const life = lifeAt(path);
    const present = life.here.known;
    const found = present === null ? undefined : subject.schema.safeParse(present.about);
    const believed = found?.success === true && subject.believes(found.data) ? found.data : undefined;
    const blocks = believed === undefined ? ([null, null] as const) : present!.blocks;
    const about = subject.opened(believed) as KnownWorld['about'];
    const opened: KnownWorld = { about, blocks: [...blocks], synced: [...blocks] };
    if (JSON.stringify(opened) !== JSON.stringify(present)) {
      life.effect('open what it knows of the replica');
      life.here.known = opened;
    }
    return new DigestFile<A>(path, life);
  }

  get about(): A {
    return this.#file.about as A;
  }

  async describe(about: A): Promise<void> {
    this.#write({ about: about as KnownWorld['about'] });
  }

  async write(runs: Iterable<DigestRun>): Promise<void> {
    const blocks: KnownWorld['blocks'] = [...this.#file.blocks];
    for (const { from, digests } of runs) {
      for (let at = 0; at * DIGEST_SIZE < digests.length; at++) {
        blocks[from + at] = knownValue(digests.subarray(at * DIGEST_SIZE));
      }
    }
    this.#write({ blocks });
  }

  async forget(ranges: Iterable<BlockRange>): Promise<void> {
    const blocks: KnownWorld['blocks'] = [...this.#file.blocks];
    for (const { from, to } of ranges) blocks.fill(null, from, to);
    this.#write({ blocks });
  }

  async sync(): Promise<void> {
    this.#file.synced = [...this.#file.blocks];
  }

  async close(): Promise<void> {
    // nothing is held
  }

  async discard(): Promise<void> {
    this.#life.live();
    this.#life.here.known = null;
  }

  get #file(): KnownWorld {
    this.#life.live();
    const { known } = this.#life.here;
    if (known === null) throw new Error('what is known was removed under an open file');
    return known;
  }

  #write(change: Partial<KnownWorld>): void {
    const next = { ...this.#file, ...change };
    if (JSON.stringify(next) === JSON.stringify(this.#file)) return;
    this.#life.effect('write down what it knows of the replica');
    this.#life.here.known = next;
  }
}
