/**
 * Digests of a disk's blocks in a file: what is known of them survives a restart. Losing the file costs reading the disk, or sending
 * it, again, so it is only believed where it checks out:
 *
 * ```
 * page 0     digest of the rest · JSON, zeros behind: format, id of the file, size of the disk, what it is about
 * page 1…    digest of the file's id, the page's number and the rest · 255 entries of 16 bytes; zeros: not known
 * ```
 *
 * A page is 4 KiB and stands for 255 blocks of 64 KiB, 0.0245 % of the disk. What a file is about (`Subject`) says its owner: the
 * replica an image (`replica/digests.ts`), the primary a position of the replica (`primary/known-blocks.ts`). A file that is about
 * something else begins anew, under an id of its own.
 */
import { randomBytes } from 'node:crypto';
import { open, rm, unlink, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { syncDirectory } from '../lib/atomic-file.ts';
import { DIGEST_SIZE, digest, digestOf } from '../lib/digest.ts';
import { writeAll } from '../lib/write-all.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import { DigestPages, PAGE, UNKNOWN, type BlockRange, type DigestRun } from './digest-pages.ts';

const FORMAT = 1;

const headerSchema = z.strictObject({
  format: z.literal(FORMAT),
  id: z.string().regex(/^[0-9a-f]{32}$/),
  size: z.number().int().min(1),
  about: z.unknown(),
});
type Header = z.infer<typeof headerSchema>;

/** What a file is about. */
export interface Subject<A> {
  readonly schema: z.ZodType<A>;
  /** Whether what a file of `found` says is true now. */
  believes(found: A): boolean;
  /** What is written into the header of the file that was opened; `believed` is what it was about, undefined for one that begins anew. */
  opened(believed: A | undefined): A;
}

export interface DigestFileOptions {
  /** Of the disk, bytes. */
  readonly size: number;
  /** Called whenever some pages were written. */
  readonly onStored?: () => void;
}

export class DigestFile<A> {
  readonly path: string;
  readonly id: string;
  readonly #file: FileHandle;
  readonly #size: number;
  readonly #pages: DigestPages;
  #about: A;

  private constructor(path: string, file: FileHandle, header: Header, about: A, onStored?: () => void) {
    this.path = path;
    this.id = header.id;
    this.#file = file;
    this.#size = header.size;
    this.#about = about;
    this.#pages = new DigestPages(file, header.id, onStored);
  }

  /** Opens a file and what is known; one that isn't about the subject begins anew. Its header is durable. */
  static async open<A>(path: string, options: DigestFileOptions, subject: Subject<A>): Promise<DigestFile<A>> {
    const { size, onStored } = options;
    const present = await readHeader(path);
    const found = present?.size === size ? subject.schema.safeParse(present.about) : undefined;
    const believed = found?.success === true && subject.believes(found.data) ? found.data : undefined;
    const id = believed === undefined ? randomBytes(DIGEST_SIZE).toString('hex') : present!.id;
    const about = subject.opened(believed);
    const file = await open(path, believed === undefined ? 'w+' : 'r+', 0o600);
    try {
      const made = new DigestFile(path, file, { format: FORMAT, id, size, about }, about, onStored);
      await made.describe(about);
      await made.sync();
      if (believed === undefined) await syncDirectory(dirname(path));
      return made;
    } catch (error) {
      await file.close();
      await rm(path); // half of it is no file of digests
      throw error;
    }
  }

  /** What it is about. */
  get about(): A {
    return this.#about;
  }

  /** From now on it is about something else. Durable only after `sync`, as all that is written. */
  async describe(about: A): Promise<void> {
    const page = Buffer.alloc(PAGE);
    page.write(JSON.stringify({ format: FORMAT, id: this.id, size: this.#size, about }), DIGEST_SIZE, 'utf8');
    digestOf(page.subarray(DIGEST_SIZE)).copy(page);
    await writeAll(this.#file, [page], 0);
    this.#about = about;
  }

  /** Digests of `count` blocks from block `from` on; zeros where they aren't known. */
  async read(from: number, count: number): Promise<Buffer> {
    return await this.#pages.read(from, count);
  }

  /** Takes digests in. Fastest where they are sorted by block. */
  async write(runs: Iterable<DigestRun>): Promise<void> {
    await this.#pages.write(runs);
  }

  /** From now on nothing is known of these blocks. */
  async forget(ranges: Iterable<BlockRange>): Promise<void> {
    await this.#pages.forget(ranges);
  }

  async sync(): Promise<void> {
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Gives up what is known, durably. */
  async discard(): Promise<void> {
    await this.#file.close();
    await unlink(this.path);
    await syncDirectory(dirname(this.path));
  }
}

/** Digest of a whole block of zeros. */
export const ZERO_BLOCK: Buffer = digest(Buffer.alloc(DIGEST_BLOCK));

export function isKnown(digestOfBlock: Buffer): boolean {
  return !digestOfBlock.equals(UNKNOWN);
}

/** Blocks of a disk of `size` bytes; the last one may be short. */
export function blocksOf(size: number): number {
  return Math.ceil(size / DIGEST_BLOCK);
}

/** Undefined for a file that isn't there, or isn't one. */
async function readHeader(path: string): Promise<Header | undefined> {
  const page = Buffer.alloc(PAGE);
  try {
    const file = await open(path, 'r');
    try {
      if ((await file.read(page, 0, PAGE, 0)).bytesRead < PAGE) return undefined;
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
  const body = page.subarray(DIGEST_SIZE);
  if (!digestOf(body).equals(page.subarray(0, DIGEST_SIZE))) return undefined;
  const parsed = headerSchema.safeParse(JSON.parse(body.toString('utf8', 0, body.indexOf(0))));
  return parsed.success ? parsed.data : undefined;
}
