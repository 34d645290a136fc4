/** What a primary may ask about the replica's disks as they are, while nothing is applied: digests, and whether both sides hold the same. */
import { blocksOf } from '../digests/digest-file.ts';
import { UNKNOWN } from '../digests/digest-pages.ts';
import { readDigests } from '../digests/read-digests.ts';
import type { Lanes } from '../lanes/lanes.ts';
import type { Extent } from '../model/extent.ts';
import { Failure } from '../model/failure.ts';
import { samePosition } from '../model/relationship.ts';
import {
  DIGEST_BLOCK,
  DIGEST_BYTES,
  MAX_VERIFY,
  type BlockQuestion,
  type ChangedSide,
  type PageQuestion,
  type VerifyAnswer,
  type VerifyQuestion,
} from '../protocol/endpoint.ts';
import { describe, notFollowing } from './admission.ts';
import type { Damage } from './damage.ts';
import { MAX_BLOCKS, type Digests } from './digests.ts';
import type { DiskEngine } from './engine.ts';
import { checkQuestion, readPageDigests } from './page-digests.ts';
import type { RecordFile } from './record.ts';

interface DamagedBlock extends Extent {
  /** Digest of what was written there, as hex. */
  readonly right: string;
}

export interface QuestionParts {
  readonly record: RecordFile;
  readonly engine: DiskEngine;
  readonly digests: Digests;
  readonly damage: Damage;
  readonly lanes: Lanes;
  /** Runs what reads disks to which everything received is applied, and which stay as they are meanwhile. Failure `busy`. */
  readonly atRest: <T>(read: () => Promise<T>) => Promise<T>;
}

export class Questions {
  readonly #parts: QuestionParts;

  constructor(parts: QuestionParts) {
    this.#parts = parts;
  }

  /** See `ReplicaEndpoint.digests`. Failures: `bad-request` (range), `busy` (logs wait). */
  async digests(question: BlockQuestion): Promise<Uint8Array> {
    const { engine, digests, atRest, record } = this.#parts;
    return await atRest(async () => {
      const { apply } = await engine.connections();
      const disk = record.value.disks.findIndex(({ target }) => target === question.target);
      const client = apply[disk];
      // A disk that is larger at the primary, or new, follows with the next log: of what isn't there yet no digest is known.
      const blocks = client === undefined ? 0 : blocksOf(client.size);
      const there = Math.max(0, Math.min(question.count, blocks - question.from));
      if (there === question.count) return await digests.of(disk, client!, question);
      if (question.count > MAX_BLOCKS)
        throw new Failure('bad-request', `${question.count} blocks are asked for at once`);
      const known = there === 0 ? Buffer.alloc(0) : await digests.of(disk, client!, { ...question, count: there });
      return Buffer.concat([known, Buffer.alloc((question.count - there) * DIGEST_BYTES)]);
    });
  }

  /** See `ReplicaEndpoint.pageDigests`. Failures as of `digests`, and `not-following`. */
  async pageDigests(question: PageQuestion, signal?: AbortSignal): Promise<Uint8Array> {
    const { record, engine, lanes, atRest } = this.#parts;
    const disk = this.#disk(question.target);
    return await atRest(async () => {
      checkQuestion(question, record.value.applied, record.value.disks[disk]!);
      const address = (await engine.addresses())[disk]!;
      return await readPageDigests(lanes, { ...question, address }, signal);
    });
  }

  /** See `ReplicaEndpoint.verify`. Failures as of `pageDigests`. */
  async verify(question: VerifyQuestion, signal?: AbortSignal): Promise<VerifyAnswer> {
    const { target, position, from } = question;
    const disk = this.#disk(target);
    const count = question.digests.length / DIGEST_BYTES;
    return await this.#parts.atRest(async () => {
      const { applied } = this.#parts.record.value;
      if (!samePosition(position, applied))
        throw notFollowing('other state', `${describe(position)} was read there`, applied);
      return await this.#compare(disk, { ...question, from, count }, signal);
    });
  }

  /**
   * Reads blocks while nothing is applied, and compares them with what is known to have been written. What is damaged is noted.
   * @returns blocks that were found to be damaged now, counted from the disk's first.
   */
  async scrub(disk: number, from: number, count: number, signal: AbortSignal): Promise<number[]> {
    return await this.#parts.atRest(async () => {
      const { digests, damage } = this.#parts;
      const { own, written } = await this.#read(disk, from, count, signal);
      const wrong = Array.from({ length: count }, (_, i) => i).filter(
        (i) => !at(written, i).equals(UNKNOWN) && !at(written, i).equals(at(own, i)),
      );
      const found = await damage.found(
        disk,
        wrong.map((i) => this.#block(disk, from + i, at(written, i))),
      );
      await digests.learn(disk, from, own);
      return found.map(({ offset }) => offset / DIGEST_BLOCK);
    });
  }

  async #compare(
    disk: number,
    { from, count, digests, changed }: VerifyQuestion & { readonly count: number },
    signal: AbortSignal | undefined,
  ): Promise<VerifyAnswer> {
    const { damage } = this.#parts;
    const theirs = Buffer.from(digests.buffer, digests.byteOffset, digests.byteLength);
    const { own, written } = await this.#read(disk, from, count, signal);
    const changedThere = new Set(changed);
    const different: { block: number; side: ChangedSide }[] = [];
    const damaged: DamagedBlock[] = [];
    for (let i = 0; i < count; i++) {
      if (at(theirs, i).equals(UNKNOWN)) continue;
      if (at(own, i).equals(at(theirs, i))) {
        await damage.proven(disk, (from + i) * DIGEST_BLOCK, (from + i + 1) * DIGEST_BLOCK);
        continue;
      }
      const isKnown = !at(written, i).equals(UNKNOWN);
      const asWritten = at(own, i).equals(at(written, i));
      const side = sideOf(isKnown && !asWritten, changedThere.has(i));
      different.push({ block: from + i, side });
      // Where the primary's own reading isn't what it sent, and this side's is what came, nothing is wrong here.
      if (side === 'primary' && asWritten) continue;
      damaged.push(this.#block(disk, from + i, isKnown && !asWritten ? at(written, i) : at(theirs, i)));
    }
    await damage.found(disk, damaged);
    await this.#parts.digests.learn(disk, from, own);
    return { different };
  }

  /** What the disk holds, and what is known to have been written to it. */
  async #read(disk: number, from: number, count: number, signal: AbortSignal | undefined) {
    const { engine, digests, lanes, record } = this.#parts;
    const blocks = Math.ceil(record.value.disks[disk]!.size / DIGEST_BLOCK);
    if (count < 1 || count > MAX_VERIFY || from < 0 || from + count > blocks) {
      throw new Failure(
        'bad-request',
        `blocks ${from} to ${from + count} of a disk of ${blocks} (at most ${MAX_VERIFY})`,
      );
    }
    const address = (await engine.addresses())[disk]!;
    const own = await readDigests(lanes, { address, from, count }, signal);
    return { own, written: await digests.known(disk, from, count) };
  }

  #block(disk: number, block: number, right: Buffer): DamagedBlock {
    const { size } = this.#parts.record.value.disks[disk]!;
    const offset = block * DIGEST_BLOCK;
    return { offset, length: Math.min(DIGEST_BLOCK, size - offset), right: right.toString('hex') };
  }

  #disk(target: string): number {
    const disk = this.#parts.record.value.disks.findIndex((one) => one.target === target);
    if (disk === -1) throw new Failure('not-found', `the replica has no disk ${target}`);
    return disk;
  }
}

function at(digests: Buffer, i: number): Buffer {
  return digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
}

function sideOf(here: boolean, there: boolean): ChangedSide {
  if (here) return there ? 'both' : 'replica';
  return there ? 'primary' : 'unknown';
}
