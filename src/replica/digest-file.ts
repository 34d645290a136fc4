/**
 * Digests of a disk's blocks in a file: what is known of them survives a restart. Losing the file costs reading the disk again,
 * so it is only believed where it checks out:
 *
 * ```
 * page 0     digest of the rest · JSON, zeros behind: format, id of the file, size of the disk, the image it is about
 * page 1…    digest of the file's id, the page's number and the rest · 255 entries of 16 bytes; zeros: not known
 * ```
 *
 * A page is 4 KiB and stands for 255 blocks of 64 KiB, 0.0245 % of the disk. Numbers of the image (its inode; its time of
 * change, when it was closed in order) tell whether somebody else's hand was on it: then nothing is believed.
 *
 * What keeps it true through a crash is not here: digests of what a log changes are written, durably, before the log counts as
 * applied; until then the log is there and is written again, digests and all.
 */
import { randomBytes } from 'node:crypto';
import { open, stat, unlink, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { DIGEST_SIZE, digestOf } from '../lib/digest.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';

const FORMAT = 0;
const PAGE = 4096;
export const PAGE_ENTRIES = PAGE / DIGEST_SIZE - 1;
/** Pages that are read and written at once: 256 KiB, for 1 GiB of disk. */
const SPAN = 64;
const UNKNOWN = Buffer.alloc(DIGEST_SIZE);

const headerSchema = z.strictObject({
  format: z.literal(FORMAT),
  id: z.string().regex(/^[0-9a-f]{32}$/),
  size: z.number().int().min(1),
  inode: z.string(),
  /** ns; null while the image is open. */
  changed: z.string().nullable(),
});
type Header = z.infer<typeof headerSchema>;

/** Digests of neighbouring blocks. */
export interface DigestRun {
  /** The first block. */
  readonly from: number;
  /** DIGEST_SIZE bytes for each. */
  readonly digests: Buffer;
}

interface Span {
  readonly number: number;
  readonly bytes: Buffer;
  readonly touched: Set<number>;
}

export class DigestFile {
  readonly path: string;
  readonly #file: FileHandle;
  #header: Header;

  private constructor(path: string, file: FileHandle, header: Header) {
    this.path = path;
    this.#file = file;
    this.#header = header;
  }

  /** Opens what is known of an image of `size` bytes; a file that isn't about it as it is now begins anew. */
  static async open(path: string, image: { readonly path: string; readonly size: number }): Promise<DigestFile> {
    const { ino, mtimeNs } = await stat(image.path, { bigint: true });
    const present = await readHeader(path);
    const fits =
      present !== undefined &&
      present.size === image.size &&
      present.inode === String(ino) &&
      (present.changed === null || present.changed === String(mtimeNs));
    const id = fits ? present.id : randomBytes(DIGEST_SIZE).toString('hex');
    const header: Header = { format: FORMAT, id, size: image.size, inode: String(ino), changed: null };
    const file = await open(path, fits ? 'r+' : 'w+', 0o600);
    try {
      const made = new DigestFile(path, file, header);
      await made.#writeHeader();
      if (!fits) await syncDirectory(dirname(path));
      return made;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Digests of `count` blocks from block `from` on; zeros where they aren't known. */
  async read(from: number, count: number): Promise<Buffer> {
    const out = Buffer.alloc(count * DIGEST_SIZE);
    let span: Span | undefined;
    for (let done = 0; done < count;) {
      const place = placeOf(from + done);
      if (span?.number !== place.span) span = await this.#load(place.span);
      const length = Math.min(count - done, place.left);
      span.bytes.copy(out, done * DIGEST_SIZE, place.at, place.at + length * DIGEST_SIZE);
      done += length;
    }
    return out;
  }

  /** Takes digests in, sorted by block. Durable only after `sync`. */
  async write(runs: Iterable<DigestRun>): Promise<void> {
    let span: Span | undefined;
    for (const { from, digests } of runs) {
      const count = digests.length / DIGEST_SIZE;
      for (let done = 0; done < count;) {
        const place = placeOf(from + done);
        if (span?.number !== place.span) {
          if (span !== undefined) await this.#store(span);
          span = await this.#load(place.span);
        }
        const length = Math.min(count - done, place.left);
        digests.copy(span.bytes, place.at, done * DIGEST_SIZE, (done + length) * DIGEST_SIZE);
        span.touched.add(place.page);
        done += length;
      }
    }
    if (span !== undefined) await this.#store(span);
  }

  async sync(): Promise<void> {
    await this.#file.datasync();
  }

  /** Ends it in order: nobody has the image open any more, so that its time of change says whether it stays as it is. */
  async close(image: { readonly path: string }): Promise<void> {
    try {
      const { ino, mtimeNs } = await stat(image.path, { bigint: true });
      this.#header = { ...this.#header, inode: String(ino), changed: String(mtimeNs) };
      await this.#writeHeader();
    } finally {
      await this.#file.close();
    }
  }

  /** Gives up what is known, durably. */
  async discard(): Promise<void> {
    await this.#file.close();
    await unlink(this.path);
    await syncDirectory(dirname(this.path));
  }

  async #writeHeader(): Promise<void> {
    const page = Buffer.alloc(PAGE);
    page.write(JSON.stringify(this.#header), DIGEST_SIZE, 'utf8');
    digestOf(page.subarray(DIGEST_SIZE)).copy(page);
    await this.#file.write(page, 0, PAGE, 0);
  }

  /** Pages that don't check out are all unknown. */
  async #load(number: number): Promise<Span> {
    const bytes = Buffer.alloc(SPAN * PAGE);
    let filled = 0;
    for (;;) {
      const { bytesRead } = await this.#file.read(bytes, filled, bytes.length - filled, spanStart(number) + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    for (let page = 0; page < SPAN; page++) {
      const content = bytes.subarray(page * PAGE, (page + 1) * PAGE);
      const sound =
        page * PAGE < filled && this.#checksum(number, page, content).equals(content.subarray(0, DIGEST_SIZE));
      if (!sound) content.fill(0);
    }
    return { number, bytes, touched: new Set() };
  }

  async #store({ number, bytes, touched }: Span): Promise<void> {
    for (const page of touched) {
      const content = bytes.subarray(page * PAGE, (page + 1) * PAGE);
      this.#checksum(number, page, content).copy(content);
    }
    const first = Math.min(...touched);
    const end = (Math.max(...touched) + 1) * PAGE;
    for (let at = first * PAGE; at < end;) {
      const { bytesWritten } = await this.#file.write(bytes, at, end - at, spanStart(number) + at);
      at += bytesWritten;
    }
    crashPoint('replica:digesting');
  }

  #checksum(span: number, page: number, content: Buffer): Buffer {
    const salt = Buffer.alloc(DIGEST_SIZE + 8);
    salt.write(this.#header.id, 'hex');
    salt.writeBigUInt64LE(BigInt(span * SPAN + page), DIGEST_SIZE);
    return digestOf(salt, content.subarray(DIGEST_SIZE));
  }
}

export function isKnown(digest: Buffer): boolean {
  return !digest.equals(UNKNOWN);
}

/** Blocks of a disk of `size` bytes; the last one may be short. */
export function blocksOf(size: number): number {
  return Math.ceil(size / DIGEST_BLOCK);
}

function spanStart(number: number): number {
  return PAGE + number * SPAN * PAGE;
}

/** Where the entry of a block is: in which span, in which page and at which byte of it; and how many more that page has. */
function placeOf(block: number): { span: number; page: number; at: number; left: number } {
  const page = Math.floor(block / PAGE_ENTRIES);
  const entry = block % PAGE_ENTRIES;
  const inSpan = page % SPAN;
  const at = inSpan * PAGE + (entry + 1) * DIGEST_SIZE;
  return { span: Math.floor(page / SPAN), page: inSpan, at, left: PAGE_ENTRIES - entry };
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
