import type { Socket } from 'node:net';
import { asFailure, Failure } from '../../model/failure.ts';
import { Allowance } from './allowance.ts';
import { Inbound } from './inbound.ts';
import { Reception } from './reception.ts';
import type { NbdSource } from './server.ts';
import {
  ALLOCATION,
  CHUNK,
  CHUNK_DONE,
  CHUNK_HEADER_BYTES,
  COMMAND,
  COMMAND_FLAG,
  encodeU32,
  ERRNO,
  MAGIC_REQUEST,
  MAGIC_SIMPLE_REPLY,
  MAGIC_STRUCTURED_REPLY,
  MAX_PAYLOAD,
  narrow,
  REQUEST_BYTES,
} from './wire.ts';

/** Bytes that one connection's reads may hold in memory; a larger read is alone. */
const MAX_BYTES = 8 * 1024 * 1024;
/** What a request without payload counts for, so that their number is bounded too: 128 at once. */
const LEAST_BYTES = 64 * 1024;
/** Most extents in one reply: 64 KiB of it. */
const MAX_EXTENTS = 8192;
/** A client that hasn't chosen an export by then is dropped, ms. */
const NEGOTIATION_MS = 30_000;

interface Asked {
  readonly command: number;
  readonly flags: number;
  /** Eight bytes that come back in the reply. */
  readonly handle: Buffer;
  readonly offset: number | undefined;
  readonly length: number;
}

/** An error that the client is told of; the connection goes on. */
class Refusal extends Error {
  readonly errno: number;

  constructor(errno: number, text: string) {
    super(text);
    this.errno = errno;
  }
}

/** One client of an `NbdServer`: agrees on an export, then answers requests as they are done, in any order. */
export class ServerSession {
  readonly #socket: Socket;
  readonly #exports: ReadonlyMap<string, NbdSource>;
  readonly #onError: (error: Failure) => void;
  readonly #memory = new Allowance(MAX_BYTES);
  readonly #underWay = new Set<Promise<void>>();
  #reception: Reception | undefined;

  constructor(socket: Socket, exports: ReadonlyMap<string, NbdSource>, onError: (error: Failure) => void) {
    this.#socket = socket;
    this.#exports = exports;
    this.#onError = onError;
  }

  /** What the client has chosen. */
  get source(): NbdSource | undefined {
    return this.#reception?.chosen;
  }

  /** Serves the client until it goes or breaks the protocol. Never rejects; nothing is under way when it resolves. */
  async run(): Promise<void> {
    this.#socket.on('error', () => undefined); // a client that goes away is no error of ours; the reading ends with it
    const inbound = new Inbound(this.#socket);
    const timer = setTimeout(() => this.#socket.destroy(), NEGOTIATION_MS);
    try {
      this.#reception = new Reception(inbound, this.#socket, this.#exports);
      const agreed = await this.#reception.run();
      clearTimeout(timer);
      if (agreed) await this.#serve(inbound, this.#reception);
    } catch (error) {
      if (!this.#socket.destroyed) this.#onError(asFailure(error, 'io'));
    } finally {
      clearTimeout(timer);
      this.#socket.destroy();
      await Promise.all(this.#underWay);
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async #serve(inbound: Inbound, reception: Reception): Promise<void> {
    for (;;) {
      const head = inbound.takeNow(REQUEST_BYTES) ?? (await inbound.take(REQUEST_BYTES));
      if (head === undefined) return;
      if (head.readUInt32BE(0) !== MAGIC_REQUEST)
        throw new Failure('io', 'NBD client sent something else than a request');
      const asked: Asked = {
        flags: head.readUInt16BE(4),
        command: head.readUInt16BE(6),
        handle: head.subarray(8, 16),
        offset: narrow(head.readBigUInt64BE(16)),
        length: head.readUInt32BE(24),
      };
      if (asked.command === COMMAND.disconnect) {
        await Promise.all(this.#underWay);
        this.#socket.end();
        return;
      }
      if (asked.command === COMMAND.write) await this.#skip(inbound, asked.length);
      const bytes = asked.command === COMMAND.read ? Math.min(asked.length, MAX_PAYLOAD) : 0;
      const release = await this.#memory.take(Math.max(bytes, LEAST_BYTES));
      const work = this.#answer(asked, reception).finally(() => {
        release();
        this.#underWay.delete(work);
      });
      this.#underWay.add(work);
    }
  }

  /** Passes over the payload of a write, which will be refused. */
  async #skip(inbound: Inbound, length: number): Promise<void> {
    if (length > MAX_PAYLOAD) throw new Failure('io', `NBD client sent a write of ${length} bytes`);
    for (let left = length; left > 0; left -= LEAST_BYTES) await inbound.take(Math.min(left, LEAST_BYTES));
  }

  async #answer(asked: Asked, reception: Reception): Promise<void> {
    try {
      await this.#carryOut(asked, reception);
    } catch (error) {
      if (!(error instanceof Refusal)) this.#onError(asFailure(error, 'io'));
      const refusal = error instanceof Refusal ? error : new Refusal(ERRNO.EIO, String(error));
      await this.#refuse(asked, refusal, reception.structured);
    }
  }

  async #carryOut(asked: Asked, reception: Reception): Promise<void> {
    const source = reception.chosen!;
    switch (asked.command) {
      case COMMAND.read:
        return await this.#read(asked, source, reception.structured);
      case COMMAND.blockStatus:
        if (!reception.allocation) throw new Refusal(ERRNO.EINVAL, 'no meta context was chosen');
        return await this.#blockStatus(asked, source);
      case COMMAND.flush:
        return await this.#acknowledge(asked, reception.structured);
      case COMMAND.write:
      case COMMAND.trim:
      case COMMAND.writeZeroes:
        throw new Refusal(ERRNO.EPERM, 'the export is read-only');
      default:
        throw new Refusal(ERRNO.EINVAL, `unknown command ${asked.command}`);
    }
  }

  async #read(asked: Asked, source: NbdSource, structured: boolean): Promise<void> {
    const { length } = asked;
    const offset = within(asked, source);
    if (length > MAX_PAYLOAD) throw new Refusal(ERRNO.EOVERFLOW, `reads are of at most ${MAX_PAYLOAD} bytes`);
    if (length === 0) return await this.#acknowledge(asked, structured);
    const bytes = await source.read(offset, length);
    try {
      const found = bytes.parts.reduce((sum, part) => sum + part.length, 0);
      if (found !== length) throw new Failure('internal', `a source gave ${found} of ${length} bytes at ${offset}`);
      const head = structured ? dataHeader(asked.handle, offset, length) : simpleReply(asked.handle, 0);
      await this.#send(head, ...bytes.parts);
    } finally {
      bytes.release?.();
    }
  }

  async #blockStatus(asked: Asked, source: NbdSource): Promise<void> {
    const offset = within(asked, source);
    if (asked.length === 0) throw new Refusal(ERRNO.EINVAL, 'block status of no bytes');
    const most = (asked.flags & COMMAND_FLAG.oneExtent) === 0 ? MAX_EXTENTS : 1;
    const runs = await allocation(source, offset, asked.length, most);
    const body = encodeU32(Reception.ALLOCATION_ID, ...runs);
    await this.#send(chunkHeader(CHUNK.blockStatus, asked.handle, body.length), body);
  }

  async #acknowledge(asked: Asked, structured: boolean): Promise<void> {
    await this.#send(structured ? chunkHeader(CHUNK.none, asked.handle, 0) : simpleReply(asked.handle, 0));
  }

  async #refuse(asked: Asked, refusal: Refusal, structured: boolean): Promise<void> {
    if (!structured) return await this.#send(simpleReply(asked.handle, refusal.errno));
    const text = Buffer.from(refusal.message.slice(0, 500), 'utf8');
    const body = Buffer.alloc(6);
    body.writeUInt32BE(refusal.errno, 0);
    body.writeUInt16BE(text.length, 4);
    await this.#send(chunkHeader(CHUNK.error, asked.handle, 6 + text.length), body, text);
  }

  /** Resolves when the kernel has taken it, or the client has gone: only then may more be read for this client. */
  async #send(...parts: Uint8Array[]): Promise<void> {
    if (this.#socket.destroyed) return;
    const taken = Promise.withResolvers<void>();
    this.#socket.cork();
    for (const part of parts.slice(0, -1)) this.#socket.write(part);
    this.#socket.write(parts.at(-1)!, () => taken.resolve());
    this.#socket.uncork();
    await taken.promise;
  }
}

/** The offset of a request that lies in the source. */
function within(asked: Asked, source: NbdSource): number {
  const { offset, length } = asked;
  if (offset !== undefined && offset + length <= source.size) return offset;
  throw new Refusal(ERRNO.EINVAL, `the export has ${source.size} bytes`);
}

/** Pairs of length and flags from `offset` on, neighbours with equal flags merged, at most `most` pairs. */
async function allocation(source: NbdSource, offset: number, length: number, most: number): Promise<number[]> {
  const extents = (await source.extents?.(offset, length)) ?? [{ offset, length, hole: false, zero: false }];
  const runs: number[] = [];
  let at = offset;
  for (const extent of extents) {
    const end = Math.min(extent.offset + extent.length, offset + length);
    if (extent.offset > at || end <= extent.offset)
      throw new Failure('internal', `extents of an NBD source have a gap at ${at}`);
    if (end <= at) continue;
    const flags = (extent.hole ? ALLOCATION.hole : 0) | (extent.zero ? ALLOCATION.zero : 0);
    if (runs.length > 0 && runs.at(-1) === flags) runs[runs.length - 2]! += end - at;
    else if (runs.length === 2 * most) break;
    else runs.push(end - at, flags);
    at = end;
  }
  if (runs.length === 0) throw new Failure('internal', `an NBD source gave no extents at ${offset}`);
  return runs;
}

function simpleReply(handle: Buffer, errno: number): Buffer {
  const head = Buffer.allocUnsafe(16);
  head.writeUInt32BE(MAGIC_SIMPLE_REPLY, 0);
  head.writeUInt32BE(errno, 4);
  handle.copy(head, 8);
  return head;
}

/** Header of a reply's only chunk, which holds data. */
function dataHeader(handle: Buffer, offset: number, length: number): Buffer {
  const head = Buffer.allocUnsafe(CHUNK_HEADER_BYTES + 8);
  chunkHeader(CHUNK.offsetData, handle, 8 + length).copy(head);
  head.writeBigUInt64BE(BigInt(offset), CHUNK_HEADER_BYTES);
  return head;
}

/** Header of a reply's only chunk. */
function chunkHeader(type: number, handle: Buffer, length: number): Buffer {
  const head = Buffer.allocUnsafe(CHUNK_HEADER_BYTES);
  head.writeUInt32BE(MAGIC_STRUCTURED_REPLY, 0);
  head.writeUInt16BE(CHUNK_DONE, 4);
  head.writeUInt16BE(type, 6);
  handle.copy(head, 8);
  head.writeUInt32BE(length, 16);
  return head;
}
