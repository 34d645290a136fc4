/**
 * Reads a delta log from its file, whole or cut off, and says what is in it and what is wrong with it. Needs nothing but the
 * file: the one place where the command line knows the format.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { Codec, FrameKind, type FrameHead, type Place } from '../deltalog/frame.ts';
import type { LogFooter, LogHeader } from '../deltalog/header.ts';
import { LogParser } from '../deltalog/parser.ts';
import { checkReferences, unpack } from '../deltalog/reader.ts';
import { totalLength, union, type Extent } from '../model/extent.ts';
import { asFailure, Failure, type FailureJson } from '../model/failure.ts';

/** `unfinished`: good up to its end, but there must come more. `unknown`: of a later version. */
export type Verdict = 'whole' | 'unfinished' | 'damaged' | 'unknown';

type FrameName = 'data' | 'zero' | 'reference';

export interface InspectedFrame {
  /** Where its head begins in the file. */
  readonly at: number;
  readonly kind: FrameName;
  readonly codec: 'plain' | 'zstd';
  readonly disk: string;
  /** On the disk, bytes. */
  readonly offset: number;
  readonly length: number;
  /** Bytes after the head in the file. */
  readonly stored: number;
  /** Of a reference: where the log has the same bytes. */
  readonly source: { readonly disk: string; readonly offset: number } | null;
}

/** What a log says of one disk. Bytes; runs are contiguous, whatever number of frames they are made of. */
export interface InspectedDisk {
  readonly target: string;
  readonly size: number;
  readonly frames: number;
  readonly dataBytes: number;
  readonly zeroBytes: number;
  readonly referenceBytes: number;
  /** Bytes of the disk that the log says something of, each counted once. */
  readonly coveredBytes: number;
  readonly runs: number;
  /** First byte and the one after the last; null where nothing is said of the disk. */
  readonly from: number | null;
  readonly to: number | null;
}

export interface InspectedLog {
  readonly path: string;
  readonly verdict: Verdict;
  /** What is wrong. Null: nothing. */
  readonly problem: FailureJson | null;
  readonly fileBytes: number;
  /** Bytes from the front that are whole and verified; what is wrong begins there. */
  readonly goodBytes: number;
  readonly header: LogHeader | null;
  readonly footer: LogFooter | null;
  readonly frames: {
    readonly data: number;
    readonly zero: number;
    readonly reference: number;
    readonly packed: number;
  };
  /** Bytes of disk in data frames, and what they take in the file. */
  readonly dataBytes: number;
  readonly storedBytes: number;
  readonly zeroBytes: number;
  /** Bytes of disk in references: the same as others in data frames. */
  readonly referenceBytes: number;
  readonly disks: readonly InspectedDisk[];
}

const READ_SIZE = 1024 * 1024;

/**
 * Every frame is verified by its digest and unpacked. A log that isn't good is an answer, not an error; what is said of
 * it then is about its good part.
 * @param onFrame called for each good data and zero frame and reference, in order. Failures: `not-found`, `io`.
 */
export async function inspectLog(
  path: string,
  onFrame: (frame: InspectedFrame) => void = () => undefined,
): Promise<InspectedLog> {
  const file = await openLog(path);
  const parser = new LogParser();
  const frames: InspectedFrame[] = [];
  let problem: Failure | undefined;
  let fileBytes: number;
  try {
    fileBytes = (await file.stat()).size;
    problem = await readAll(file, parser, (frame) => {
      frames.push(frame);
      onFrame(frame);
    });
    if (parser.complete) problem ??= await referencesAstray(path, parser);
  } catch (error) {
    throw asFailure(error, 'io');
  } finally {
    await file.close();
  }
  const { accepted: goodBytes, header = null, footer = null, complete } = parser;
  const damage =
    problem && new Failure(problem.code, `${problem.message} (at byte ${goodBytes} of ${fileBytes})`, problem);
  const [data, zero, reference] = KINDS.map((kind) => frames.filter((frame) => frame.kind === kind)) as Three;
  return {
    path,
    verdict: problem !== undefined ? verdictOn(problem) : complete ? 'whole' : 'unfinished',
    problem: damage?.toJSON() ?? (complete ? null : unfinished(goodBytes, fileBytes).toJSON()),
    fileBytes,
    goodBytes,
    header,
    footer,
    frames: {
      data: data.length,
      zero: zero.length,
      reference: reference.length,
      packed: data.filter(({ codec }) => codec === 'zstd').length,
    },
    dataBytes: totalLength(data),
    storedBytes: data.reduce((sum, { stored }) => sum + stored, 0),
    zeroBytes: totalLength(zero),
    referenceBytes: totalLength(reference),
    disks: (header?.disks ?? []).map(({ target, size }) => summarize(target, size, frames)),
  };
}

const KINDS: readonly FrameName[] = ['data', 'zero', 'reference'];
type Three = [InspectedFrame[], InspectedFrame[], InspectedFrame[]];

async function referencesAstray(path: string, parser: LogParser): Promise<Failure | undefined> {
  try {
    await checkReferences(path, parser);
    return undefined;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

async function openLog(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw asFailure(error, 'io');
    const hint = 'Delta logs lie in the directories inbox/ and undo/ of a replica.';
    throw new Failure('not-found', `There is no file ${path}`, { hint });
  }
}

/** Gives the parser the whole file; gives what is wrong with it, if anything but its end is. */
async function readAll(
  file: FileHandle,
  parser: LogParser,
  onFrame: (frame: InspectedFrame) => void,
): Promise<Failure | undefined> {
  const targetOf = ({ disk }: Pick<Place, 'disk'>): string => parser.header!.disks[disk]!.target;
  const tell = (head: FrameHead, payload: Buffer): void => {
    if (head.kind === FrameKind.data) unpack(head, payload);
    onFrame({
      at: parser.accepted,
      kind: nameOf(head),
      codec: head.codec === Codec.zstd ? 'zstd' : 'plain',
      disk: targetOf(head),
      offset: head.offset,
      length: head.length,
      stored: head.stored,
      source: head.source === undefined ? null : { disk: targetOf(head.source), offset: head.source.offset },
    });
  };
  for (let at = 0; ;) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(READ_SIZE), 0, READ_SIZE, at);
    if (bytesRead === 0) return undefined;
    at += bytesRead;
    try {
      parser.push(buffer.subarray(0, bytesRead), tell);
    } catch (error) {
      if (error instanceof Failure) return error;
      throw error;
    }
  }
}

function nameOf({ kind }: FrameHead): FrameName {
  if (kind === FrameKind.data) return 'data';
  return kind === FrameKind.zero ? 'zero' : 'reference';
}

function summarize(target: string, size: number, all: readonly InspectedFrame[]): InspectedDisk {
  const frames = all.filter(({ disk }) => disk === target);
  const runs: Extent[] = union(frames);
  const [first, last] = [runs[0], runs.at(-1)];
  const bytesOf = (wanted: FrameName): number => totalLength(frames.filter(({ kind }) => kind === wanted));
  return {
    target,
    size,
    frames: frames.length,
    dataBytes: bytesOf('data'),
    zeroBytes: bytesOf('zero'),
    referenceBytes: bytesOf('reference'),
    coveredBytes: totalLength(runs),
    runs: runs.length,
    from: first?.offset ?? null,
    to: last === undefined ? null : last.offset + last.length,
  };
}

function verdictOn(problem: Failure): Verdict {
  return problem.code === 'format-unknown' ? 'unknown' : 'damaged';
}

function unfinished(goodBytes: number, fileBytes: number): Failure {
  return new Failure('bad-log', `the delta log is not finished: it is good up to byte ${goodBytes} of ${fileBytes}`, {
    hint: 'A log that is being received (.part) goes on there by itself; an undo log (.tmp) is written anew.',
  });
}
