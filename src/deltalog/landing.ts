/**
 * How a log comes from the network into a file of the inbox: verified as it arrives, whole and on the disk at the end. It
 * runs where the bytes arrive, in a thread of their own; who may send what is decided elsewhere (`admit`).
 */
import { abortable } from '../lib/abortable.ts';
import { roomAt } from '../lib/room.ts';
import { Failure } from '../model/failure.ts';
import type { LogFooter, LogHeader } from './header.ts';
import { Part } from './part.ts';
import { checkReferences } from './reader.ts';

/** Free room is looked at after so many bytes. */
const LOOK_EVERY = 16 * 1024 * 1024;

export interface Landing {
  readonly path: string;
  /** For messages. */
  readonly sequence: number;
  /** Byte of the log with which the body begins. */
  readonly offset: number;
  /** One number, readable from all threads: how many bytes of the log are verified and written; -1 before that is known. */
  readonly progress: BigInt64Array<SharedArrayBuffer>;
  /** Bytes of the file system that stay free. */
  readonly floor: number;
}

export interface Landed {
  readonly bytes: number;
  readonly header: LogHeader;
  readonly footer: LogFooter;
}

/** Throws when the log isn't taken. */
export type Admit = (header: LogHeader) => void | Promise<void>;

export function newProgress(): Landing['progress'] {
  return new BigInt64Array(new SharedArrayBuffer(8)).fill(-1n);
}

/**
 * Resolves when the log is whole and durable in the file. `admit` is asked before a byte of it is written. What was good
 * stays in the file, whatever happens. Failures: `bad-log`, `format-unknown`, `interrupted` (the body ended, or began too far on), `no-space`.
 * @param body the log's bytes from `offset` on, as they arrive: each time all that have come, in memory that may be used again when
 * the next are asked for.
 */
export async function land(
  landing: Landing,
  body: AsyncIterable<readonly Uint8Array[]>,
  admit: Admit,
  signal: AbortSignal,
): Promise<Landed> {
  const part = await Part.open(landing.path);
  try {
    note(landing, part);
    if (part.parser.header !== undefined) await admit(part.parser.header);
    if (landing.offset > part.good) {
      const { sequence, offset } = landing;
      throw new Failure('interrupted', `log ${sequence} was sent from byte ${offset}; the replica has ${part.good}`);
    }
    await fill(part, landing, body, admit, signal);
    await checkReferences(landing.path, part.parser);
    await part.sync();
  } finally {
    await part.close();
    note(landing, part);
  }
  const { header, footer } = part.parser;
  if (header === undefined || footer === undefined) throw new Failure('internal', 'a whole log has both its ends');
  return { bytes: part.good, header, footer };
}

async function fill(
  part: Part,
  landing: Landing,
  body: AsyncIterable<readonly Uint8Array[]>,
  admit: Admit,
  signal: AbortSignal,
): Promise<void> {
  const { parser } = part;
  let known = part.good - landing.offset;
  let admitted = parser.header !== undefined;
  let held: Buffer[] = [];
  let looked = part.good;
  if (parser.complete) return;
  for await (const chunks of abortable(body, signal)) {
    const fresh: Buffer[] = held;
    let broken: { readonly error: unknown } | undefined;
    for (const chunk of chunks) {
      const ignored = Math.min(known, chunk.length);
      known -= ignored;
      if (ignored === chunk.length) continue;
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset + ignored, chunk.length - ignored);
      fresh.push(bytes);
      try {
        parser.push(bytes);
      } catch (error) {
        broken = { error };
        break;
      }
    }
    if (!admitted && parser.header !== undefined) {
      await admit(parser.header);
      admitted = true;
    }
    held = admitted ? [] : [Buffer.concat(fresh)];
    if (admitted) await part.write(fresh);
    note(landing, part);
    if (part.good - looked >= LOOK_EVERY) {
      looked = part.good;
      await requireRoom(landing);
    }
    if (broken !== undefined) throw broken.error;
    if (parser.complete) return;
  }
  throw new Failure('interrupted', `log ${landing.sequence} ended after ${part.good} bytes, before its end`);
}

async function requireRoom({ path, floor }: Landing): Promise<void> {
  if ((await roomAt(path)).freeBytes < floor) throw new Failure('no-space', `${path}: the file system is nearly full`);
}

function note({ progress }: Landing, part: Part): void {
  Atomics.store(progress, 0, BigInt(part.good));
}
