/**
 * Digests of a replica's disks, block by block: what two sides compare to find out where they differ. What is known lies in a
 * file for each disk (image-digests.ts), kept up to date by what is applied anyway; the rest is read, and known from then on.
 * They are hints: whatever goes wrong with a file costs reading the disk. Where a person wants both sides compared, none is believed.
 */
import { rm } from 'node:fs/promises';
import { blocksOf, isKnown } from '../digests/digest-file.ts';
import type { BlockRange, DigestRun } from '../digests/digest-pages.ts';
import { digestBlocks } from '../digests/read-digests.ts';
import type { Log } from '../lib/log.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { DIGEST_BYTES, type BlockQuestion } from '../protocol/endpoint.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import type { LocalDisk } from '../store/store.ts';
import { closeImageDigests, openImageDigests, sealImageDigests, type ImageDigests } from './image-digests.ts';
import type { ReplicaLayout } from './layout.ts';

/** Most blocks in one request: 4 GiB of disk, 1 MiB of digests. */
export const MAX_BLOCKS = 65_536;

/** Unknown blocks nearer to each other than this are read in one go, known ones between them too. */
const NEAR = 16;

export interface DigestsOptions {
  readonly layout: ReplicaLayout;
  readonly disks: readonly LocalDisk[];
  readonly log: Log;
  /** Told of a disk that somebody else has written while nobody of ours had it open. */
  readonly onForeign: (target: string) => void;
}

export class Digests {
  readonly #layout: ReplicaLayout;
  #disks: readonly LocalDisk[];
  readonly #log: Log;
  readonly #onForeign: (target: string) => void;
  /** By disk; undefined where there is none, or none that can be used. */
  readonly #files: (ImageDigests | undefined)[] = [];

  constructor(options: DigestsOptions) {
    this.#layout = options.layout;
    this.#disks = options.disks;
    this.#log = options.log;
    this.#onForeign = options.onForeign;
  }

  /** Opens what is known. Before anybody opens the images: what happened to them meanwhile has to be seen. */
  async open(): Promise<void> {
    for (const [i, disk] of this.#disks.entries()) {
      const path = this.#layout.digests(disk.target);
      const onForeign = () => this.#onForeign(disk.target);
      this.#files[i] ??= await openImageDigests(path, disk, onForeign).catch((error: unknown) => {
        this.#log.warn({ err: asFailure(error, 'io'), disk: disk.target }, 'digests of a disk can not be kept');
        return undefined;
      });
    }
  }

  /** Ends in order; nobody has the images open any more. */
  async close(): Promise<void> {
    for (const [i, disk] of this.#disks.entries()) {
      const file = this.#files[i];
      this.#files[i] = undefined;
      if (file === undefined) continue;
      await closeImageDigests(file, disk).catch((error: unknown) => this.#givenUp(i, error));
    }
  }

  /**
   * Whatever changes the disks, while nobody has the images open. Nothing is known any more of those that it touches: before it begins, so that
   * nobody takes it for another's hand should it be cut.
   */
  async change(disks: readonly LocalDisk[], touched: ReadonlySet<number>, work: () => Promise<void>): Promise<void> {
    for (const [i, { target, size }] of disks.entries()) {
      if (this.#disks[i]?.size === size && !touched.has(i)) continue;
      await this.#files[i]?.discard();
      this.#files[i] = undefined;
      await rm(this.#layout.digests(target), { force: true }); // of a try that was taken back
    }
    await this.close();
    try {
      await work();
      this.#disks = disks;
    } finally {
      await this.open();
    }
  }

  /** What is known or is read by `client`. While nothing is applied. Failure `bad-request` for blocks that aren't there. */
  async of(disk: number, client: NbdClient, question: Omit<BlockQuestion, 'target'>): Promise<Uint8Array> {
    const { from, count, reread = false } = question;
    checkRange(client, from, count);
    const believed = reread ? undefined : await this.#keep(disk, (kept) => kept.read(from, count));
    const known = believed ?? Buffer.alloc(count * DIGEST_BYTES);
    for (const range of unknownIn(known)) {
      const start = from + range.from;
      const read = await digestBlocks(client, start, range.to - range.from);
      read.copy(known, range.from * DIGEST_BYTES);
      await this.#keep(disk, (kept) => kept.write([{ from: start, digests: read }]));
    }
    return known;
  }

  /** What is known without reading; zeros where nothing is. */
  async known(disk: number, from: number, count: number): Promise<Buffer> {
    return (await this.#keep(disk, (file) => file.read(from, count))) ?? Buffer.alloc(count * DIGEST_BYTES);
  }

  /** These blocks were just read, while nothing is applied. */
  async learn(disk: number, from: number, digests: Buffer): Promise<void> {
    await this.#keep(disk, (file) => file.write([{ from, digests }]));
  }

  /** Nobody knows what the disks hold: nothing is known any more. Throws if not even that is possible. */
  async forget(): Promise<void> {
    for (const [disk, file] of this.#files.entries()) {
      this.#files[disk] = undefined;
      await file?.discard();
    }
  }

  /** A log is in the disks, and these are the blocks that it has changed, by disk: durable when it resolves. */
  async note(changed: readonly (readonly DigestRun[])[]): Promise<void> {
    for (const [disk, runs] of changed.entries()) {
      if (runs.length === 0) continue;
      await this.#keep(disk, async (file) => {
        await file.write(runs.toSorted((a, b) => a.from - b.from));
        await file.sync();
      });
    }
  }

  /** The disks hold that log, durably: whoever finds one of those that it has changed otherwise finds another's hand on it. */
  async seal(changed: readonly (readonly DigestRun[])[]): Promise<void> {
    for (const [disk, runs] of changed.entries()) {
      if (runs.length > 0) await this.#keep(disk, (file) => sealImageDigests(file, this.#disks[disk]!));
    }
  }

  /** The image of a disk was changed in what it keeps about itself: what its blocks ought to hold is what is known, all the same. */
  async reseal(disk: number): Promise<void> {
    await this.#keep(disk, (file) => sealImageDigests(file, this.#disks[disk]!));
  }

  /**
   * Does something with what is known of a disk, if there is anything. A file with which it goes wrong is given up, all of it: it must
   * never be believed later. Throws if not even that is possible.
   */
  async #keep<T>(disk: number, work: (file: ImageDigests) => Promise<T>): Promise<T | undefined> {
    const file = this.#files[disk];
    if (file === undefined) return undefined;
    try {
      return await work(file);
    } catch (error) {
      this.#givenUp(disk, error);
      await file.discard();
      this.#files[disk] = undefined;
      return undefined;
    }
  }

  #givenUp(disk: number, error: unknown): void {
    const { target } = this.#disks[disk]!;
    this.#log.warn({ err: asFailure(error, 'io'), disk: target }, 'digests of a disk are given up');
  }
}

/** Ranges of blocks without a digest. */
function unknownIn(digests: Buffer): BlockRange[] {
  const out: { from: number; to: number }[] = [];
  for (let block = 0; block * DIGEST_BYTES < digests.length; block++) {
    if (isKnown(digests.subarray(block * DIGEST_BYTES, (block + 1) * DIGEST_BYTES))) continue;
    const last = out.at(-1);
    if (last !== undefined && block - last.to < NEAR) last.to = block + 1;
    else out.push({ from: block, to: block + 1 });
  }
  return out;
}

function checkRange(client: NbdClient, from: number, count: number): void {
  const blocks = blocksOf(client.size);
  const sound = Number.isSafeInteger(from) && Number.isSafeInteger(count) && from >= 0 && count >= 1;
  if (!sound || count > MAX_BLOCKS || from + count > blocks) {
    throw new Failure(
      'bad-request',
      `blocks ${from} to ${from + count} of a disk of ${blocks} (at most ${MAX_BLOCKS})`,
    );
  }
}
