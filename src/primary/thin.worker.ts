/** Lane's side of making a log thinner: reads the captured one, asks which pages the replica has, writes the others. */
import { randomBytes } from 'node:crypto';
import { FrameKind, REFERENCE_BLOCK } from '../deltalog/frame.ts';
import type { LogFooter, LogHeader } from '../deltalog/header.ts';
import { LogReader, unpack, type FrameEntry } from '../deltalog/reader.ts';
import { LogWriter } from '../deltalog/writer.ts';
import type { LaneContext } from '../lanes/context.ts';
import { union, type Extent } from '../model/extent.ts';
import { MAX_PAGES, MAX_RUNS } from '../protocol/endpoint.ts';
import { Referred } from './referred.ts';
import { PAGE, PAGE_DIGEST_BYTES, pageDigests, SALT_BYTES, wholePages } from '../protocol/page-digest.ts';

export interface ThinInput {
  /** The captured log: finished, its frames disjoint. */
  readonly from: string;
  /** The thinner one, and its header. */
  readonly to: string;
  readonly header: LogHeader;
  /** zstd level; 0: plain. */
  readonly level: number;
  /** Longer it is of no use, bytes. */
  readonly most: number;
}

/** What a lane asks: digests of pages, answered as of `ReplicaEndpoint.pageDigests`. */
export interface PagesInDoubt {
  /** By index. */
  readonly disk: number;
  /** 32 hex digits. */
  readonly salt: string;
  readonly runs: readonly Extent[];
}

/** Gives the footer of the thinner log; null when it would be of no use. The file is the caller's to remove then. */
export async function thinLog(input: ThinInput, context: LaneContext): Promise<LogFooter | null> {
  const { from, to, header, level, most } = input;
  const reader = await LogReader.open(from);
  const writer = await LogWriter.create(to, header, { compression: level });
  let footer: LogFooter | undefined;
  try {
    const sorted = (await reader.index()).toSorted((a, b) => a.disk - b.disk || a.offset - b.offset);
    // References last: what they name has its place in the thinner log by then.
    const [references, others] = [true, false].map((is) => sorted.filter(({ kind }) => isReference(kind) === is));
    const referred = new Referred(reader, others!, references!);
    for (const batch of [...batches(others!, header), ...batches(references!, header)]) {
      context.signal.throwIfAborted();
      const { disk, runs, frames } = batch;
      const salt = randomBytes(SALT_BYTES);
      const question: PagesInDoubt = { disk, salt: salt.toString('hex'), runs };
      const theirs = runs.length === 0 ? NOTHING : Buffer.from(await context.ask<Uint8Array>(question));
      const { size } = header.disks[disk]!;
      let at = 0;
      for (const frame of frames) {
        const page = { salt, theirs: theirs.subarray(at), size };
        at += await (isReference(frame.kind)
          ? putReference(frame, page, referred, writer)
          : putThinner(frame, page, referred, reader, writer));
      }
      if (writer.written > most) return null;
    }
    footer = await writer.finish({ durable: false });
    return writer.written > most ? null : footer;
  } finally {
    await reader.close();
    if (footer === undefined) await writer.abandon();
  }
}

/** Frames of one disk, and the pages in them about which one question is asked. */
interface Batch {
  readonly disk: number;
  readonly frames: FrameEntry[];
  readonly runs: Extent[];
}

function* batches(entries: readonly FrameEntry[], { disks }: LogHeader): Generator<Batch, void, undefined> {
  let batch: Batch | undefined;
  let pages = 0;
  for (const frame of entries) {
    const run = frame.kind !== FrameKind.zero ? wholePages(frame, disks[frame.disk]!.size) : undefined;
    const more = run === undefined ? 0 : Math.ceil(run.length / PAGE);
    if (
      batch !== undefined &&
      (batch.disk !== frame.disk || pages + more > MAX_PAGES || batch.runs.length === MAX_RUNS)
    ) {
      yield batch;
      batch = undefined;
    }
    if (batch === undefined) {
      batch = { disk: frame.disk, frames: [], runs: [] };
      pages = 0;
    }
    batch.frames.push(frame);
    pages += more;
    if (run === undefined) continue;
    const last = batch.runs.at(-1);
    if (last !== undefined && last.offset + last.length === run.offset) {
      batch.runs[batch.runs.length - 1] = { offset: last.offset, length: last.length + run.length };
    } else {
      batch.runs.push(run);
    }
  }
  if (batch !== undefined) yield batch;
}

/** What the replica has said of a frame's pages. */
interface Said {
  readonly salt: Buffer;
  /** From the frame's first page on. */
  readonly theirs: Buffer;
  /** Of the disk, bytes. */
  readonly size: number;
}

/** Writes what is left of a frame; gives how many bytes of `theirs` were about it. */
async function putThinner(
  frame: FrameEntry,
  { salt, theirs, size }: Said,
  referred: Referred,
  reader: LogReader,
  writer: LogWriter,
): Promise<number> {
  const { disk, offset, length } = frame;
  if (frame.kind === FrameKind.zero) {
    await writer.zero(disk, offset, length);
    return 0;
  }
  const stored = await reader.stored(frame);
  const pages = wholePages(frame, size);
  if (pages === undefined) {
    await writer.copy(stored);
    referred.stays(frame);
    return 0;
  }
  const data = unpack(stored.head, stored.payload);
  const ours = pageDigests(salt, data.subarray(pages.offset - offset, pages.offset - offset + pages.length));
  const left = union([...differing(frame, pages, ours, theirs)]);
  if (left.length === 1 && left[0]!.length === length) {
    await writer.copy(stored);
  } else {
    for (const run of left) {
      await writer.data(disk, run.offset, data.subarray(run.offset - offset, run.offset - offset + run.length));
    }
  }
  for (const run of left) referred.stays({ disk, ...run });
  return ours.length;
}

/** The same for a reference, block by block: it stays one where the block is all new and the log has its source whole. */
async function putReference(
  frame: FrameEntry,
  { salt, theirs }: Said,
  referred: Referred,
  writer: LogWriter,
): Promise<number> {
  const { disk, length } = frame;
  let done = 0;
  for (let block = 0; block < length; block += REFERENCE_BLOCK) {
    const offset = frame.offset + block;
    const source = { disk: frame.source!.disk, offset: frame.source!.offset + block };
    const data = await referred.data(source);
    const ours = pageDigests(salt, data);
    const run = { offset, length: REFERENCE_BLOCK };
    const left = union([...differing(run, run, ours, theirs.subarray(done))]);
    const isNew = left[0]?.length === REFERENCE_BLOCK;
    const twin = isNew ? referred.placeOf(source) : undefined;
    if (twin !== undefined) {
      await writer.reference(disk, offset, REFERENCE_BLOCK, twin);
    } else {
      for (const { offset: from, length: count } of left) {
        await writer.data(disk, from, data.subarray(from - offset, from - offset + count));
      }
      if (isNew) referred.isAt(source, { disk, offset });
    }
    done += ours.length;
  }
  return done;
}

/**
 * Parts of a frame that the replica doesn't have: pages with another digest, and what isn't a whole page. Each run of
 * them becomes a frame of its own: many in one frame would save 1 to 4 % (pages of files, zstd 1 to 9), no reason for another kind.
 */
function* differing(frame: Extent, pages: Extent, ours: Buffer, theirs: Buffer): Generator<Extent, void, undefined> {
  const end = pages.offset + pages.length;
  if (pages.offset > frame.offset) yield { offset: frame.offset, length: pages.offset - frame.offset };
  for (let at = pages.offset, i = 0; at < end; at += PAGE, i += PAGE_DIGEST_BYTES) {
    const same = ours.compare(theirs, i, i + PAGE_DIGEST_BYTES, i, i + PAGE_DIGEST_BYTES) === 0;
    if (!same) yield { offset: at, length: Math.min(PAGE, end - at) };
  }
  const behind = frame.offset + frame.length - end;
  if (behind > 0) yield { offset: end, length: behind };
}

const NOTHING = Buffer.alloc(0);

function isReference(kind: FrameEntry['kind']): boolean {
  return kind === FrameKind.reference;
}
