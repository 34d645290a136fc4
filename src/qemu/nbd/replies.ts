import { Failure } from '../../model/failure.ts';
import type { Intake } from './intake.ts';
import type { Request } from './request.ts';
import {
  CHUNK,
  CHUNK_DONE,
  CHUNK_ERROR_BIT,
  CHUNK_HEADER_BYTES,
  MAGIC_SIMPLE_REPLY,
  MAGIC_STRUCTURED_REPLY,
  MAX_PAYLOAD,
  SIMPLE_REPLY_BYTES,
} from './wire.ts';

/** Longest chunk that isn't data (extents, error texts), bytes. */
const MAX_CONTROL = 16 * 1024 * 1024;

/**
 * Parses the replies of a server and hands their content to the requests they belong to. Simple and structured replies
 * may alternate: with structured replies agreed on, QEMU still answers writes, trims and flushes with simple ones.
 */
export class Replies {
  readonly #intake: Intake;
  readonly #who: string;
  readonly #open: Map<number, Request>;
  readonly #structured: boolean;
  readonly #head = Buffer.alloc(CHUNK_HEADER_BYTES + 8);

  /** @param open requests under way by handle; a request leaves it with its last reply */
  constructor(intake: Intake, who: string, open: Map<number, Request>, structured: boolean) {
    this.#intake = intake;
    this.#who = who;
    this.#open = open;
    this.#structured = structured;
  }

  /** Begins; from then on errors in the stream destroy the connection. */
  start(): void {
    this.#next();
  }

  #next(): void {
    this.#intake.want(this.#head.subarray(0, SIMPLE_REPLY_BYTES), () => {
      const magic = this.#head.readUInt32BE(0);
      if (magic === MAGIC_SIMPLE_REPLY) this.#simple();
      else if (magic === MAGIC_STRUCTURED_REPLY && this.#structured) {
        this.#intake.want(this.#head.subarray(SIMPLE_REPLY_BYTES, CHUNK_HEADER_BYTES), () => this.#chunk());
      } else throw this.#broken(`reply with magic 0x${magic.toString(16)}`);
    });
  }

  #simple(): void {
    const handle = this.#handle();
    const request = this.#request(handle);
    const errno = this.#head.readUInt32BE(4);
    if (errno !== 0) {
      request.refused(errno, '');
    } else if (request.isRead) {
      if (this.#structured) throw request.broken('a simple reply to a read');
      this.#intake.want(request.all(), () => this.#finish(handle, request));
      return;
    }
    this.#finish(handle, request);
  }

  #chunk(): void {
    const handle = this.#handle();
    const request = this.#request(handle);
    const last = (this.#head.readUInt16BE(4) & CHUNK_DONE) !== 0;
    const type = this.#head.readUInt16BE(6);
    const length = this.#head.readUInt32BE(16);
    const then = (): void => (last ? this.#finish(handle, request) : this.#next());
    if (length > (type === CHUNK.offsetData ? MAX_PAYLOAD + 8 : MAX_CONTROL)) {
      throw request.broken(`a chunk of ${length} bytes`);
    }
    if (type === CHUNK.offsetData && length > 8) {
      const offset = this.#head.subarray(CHUNK_HEADER_BYTES);
      this.#intake.want(offset, () => {
        this.#intake.want(request.slice(offset.readBigUInt64BE(0), length - 8), then);
      });
      return;
    }
    const body = Buffer.alloc(length);
    this.#intake.want(body, () => {
      this.#control(request, type, body);
      then();
    });
  }

  #control(request: Request, type: number, body: Buffer): void {
    if (type === CHUNK.none && body.length === 0) return;
    if (type === CHUNK.offsetHole && body.length === 12) {
      request.slice(body.readBigUInt64BE(0), body.readUInt32BE(8)).fill(0);
    } else if (type === CHUNK.blockStatus && body.length >= 12 && body.length % 8 === 4) {
      const runs = request.runs.get(body.readUInt32BE(0)) ?? [];
      for (let at = 4; at < body.length; at += 8) {
        runs.push({ length: body.readUInt32BE(at), flags: body.readUInt32BE(at + 4) });
      }
      request.runs.set(body.readUInt32BE(0), runs);
    } else if ((type & CHUNK_ERROR_BIT) !== 0 && body.length >= 6) {
      request.refused(body.readUInt32BE(0), body.toString('utf8', 6, 6 + body.readUInt16BE(4)));
    } else {
      throw request.broken(`a chunk of type ${type} with ${body.length} bytes`);
    }
  }

  #finish(handle: number, request: Request): void {
    request.finish();
    this.#open.delete(handle);
    this.#next();
  }

  /** Ours are below 2^32. */
  #handle(): number {
    return this.#head.readUInt32BE(8) === 0 ? this.#head.readUInt32BE(12) : -1;
  }

  #request(handle: number): Request {
    const request = this.#open.get(handle);
    if (request === undefined) throw this.#broken('reply to a request that was never made');
    return request;
  }

  #broken(what: string): Failure {
    return new Failure('disk-engine', `${this.#who}: ${what}`);
  }
}
