/**
 * Takes the bytes of a delta log as they arrive, in pieces of any size, and gives back whole, verified frames.
 * Holds at most one frame. What it has accepted (`accepted`) ends at a frame boundary, so that a broken
 * transmission costs at most one frame.
 */
import { Failure } from '../model/failure.ts';
import { digest, RunningDigest } from '../lib/digest.ts';
import { decodeFrameHead, FRAME_HEAD_SIZE, FrameKind, verifyFrame, type FrameHead } from './frame.ts';
import {
  chainState,
  decodeHeader,
  footerSchema,
  headerSize,
  parseJson,
  PRELUDE_SIZE,
  type LogFooter,
  type LogHeader,
} from './header.ts';
import { INDEX_ENTRY_SIZE, indexEntry, TRAILER_MAGIC, TRAILER_SIZE } from './writer.ts';

export class LogParser {
  #buffer: Buffer[] = [];
  #buffered = 0;
  #accepted = 0;
  #digest = new RunningDigest();
  /** Digest of the index that the frames so far make. */
  #indexDigest = new RunningDigest();
  #header: LogHeader | undefined;
  #footer: LogFooter | undefined;
  #complete = false;
  #frames = 0;
  #dataBytes = 0;
  #zeroBytes = 0;
  #indexAt = -1;
  #endAt = -1;

  /** Bytes of whole, verified parts so far. */
  get accepted(): number {
    return this.#accepted;
  }

  get header(): LogHeader | undefined {
    return this.#header;
  }

  get footer(): LogFooter | undefined {
    return this.#footer;
  }

  /** Whether the last byte of the log has been accepted. */
  get complete(): boolean {
    return this.#complete;
  }

  /**
   * Takes some bytes; returns those (earlier ones included) that have become whole and verified by them, in order.
   * @param onFrame called for each data and zero frame with its stored payload.
   * Throws `bad-log` or `format-unknown`; the parser is of no use afterwards.
   */
  push(chunk: Buffer, onFrame?: (head: FrameHead, payload: Buffer) => void): Buffer[] {
    const out: Buffer[] = [];
    this.#buffer.push(chunk);
    this.#buffered += chunk.length;
    for (;;) {
      const part = this.#next(onFrame);
      if (part === undefined) return out;
      out.push(part);
      this.#accepted += part.length;
    }
  }

  #next(onFrame: ((head: FrameHead, payload: Buffer) => void) | undefined): Buffer | undefined {
    if (this.#complete) {
      if (this.#buffered > 0) throw new Failure('bad-log', `${this.#buffered} bytes follow the end of the delta log`);
      return undefined;
    }
    if (this.#header === undefined) return this.#takeHeader();
    if (this.#footer !== undefined) return this.#takeTrailer();
    return this.#takeFrame(onFrame);
  }

  #takeHeader(): Buffer | undefined {
    const prelude = this.#peek(PRELUDE_SIZE);
    if (prelude === undefined) return undefined;
    const bytes = this.#take(headerSize(prelude));
    if (bytes === undefined) return undefined;
    const decoded = decodeHeader(bytes);
    this.#header = decoded.header;
    this.#digest.update(decoded.digest);
    return bytes;
  }

  #takeFrame(onFrame: ((head: FrameHead, payload: Buffer) => void) | undefined): Buffer | undefined {
    const headBytes = this.#peek(FRAME_HEAD_SIZE);
    if (headBytes === undefined) return undefined;
    const head = decodeFrameHead(headBytes);
    if (head.kind === FrameKind.index && head.stored !== this.#frames * INDEX_ENTRY_SIZE) {
      throw new Failure('bad-log', 'the index of the delta log does not fit its frames'); // before it is waited for
    }
    const at = this.#accepted;
    const bytes = this.#take(FRAME_HEAD_SIZE + head.stored);
    if (bytes === undefined) return undefined;
    const payload = bytes.subarray(FRAME_HEAD_SIZE);
    verifyFrame(bytes, head, payload);
    if (head.kind === FrameKind.end) {
      this.#endAt = at;
      this.#footer = this.#checkFooter(parseJson(payload, footerSchema, 'footer'));
      return bytes;
    }
    if (this.#indexAt >= 0) throw new Failure('bad-log', 'a frame follows the index of the delta log');
    this.#digest.update(head.digest);
    if (head.kind === FrameKind.index) {
      if (!digest(payload).equals(this.#indexDigest.finish())) {
        throw new Failure('bad-log', 'the index of the delta log does not fit its frames');
      }
      this.#indexAt = at;
    } else {
      this.#checkRange(head);
      this.#indexDigest.update(indexEntry(bytes, at));
      this.#frames++;
      if (head.kind === FrameKind.data) this.#dataBytes += head.length;
      else this.#zeroBytes += head.length;
      onFrame?.(head, payload);
    }
    return bytes;
  }

  #takeTrailer(): Buffer | undefined {
    const bytes = this.#take(TRAILER_SIZE);
    if (bytes === undefined) return undefined;
    if (Number(bytes.readBigUInt64LE(0)) !== this.#endAt || !bytes.subarray(8).equals(TRAILER_MAGIC)) {
      throw new Failure('bad-log', 'the trailer of the delta log is wrong');
    }
    this.#complete = true;
    return bytes;
  }

  #checkRange(head: FrameHead): void {
    const disk = this.#header!.disks[head.disk];
    if (disk === undefined) throw new Failure('bad-log', `frame for disk ${head.disk}, which the header does not name`);
    if (head.offset + head.length > disk.size) {
      throw new Failure(
        'bad-log',
        `frame at ${disk.target}+${head.offset} (${head.length} bytes) passes the disk's end`,
      );
    }
  }

  #checkFooter(footer: LogFooter): LogFooter {
    const header = this.#header!;
    const wrong = (what: string) => new Failure('bad-log', `the delta log's ${what} does not fit its footer`);
    if (footer.frames !== this.#frames) throw wrong('number of frames');
    if (footer.dataBytes !== this.#dataBytes || footer.zeroBytes !== this.#zeroBytes) throw wrong('number of bytes');
    if (footer.indexAt !== this.#indexAt) throw wrong('index');
    if (footer.logDigest !== this.#digest.finish().toString('hex')) throw wrong('digest');
    if (footer.makes.sequence !== header.sequence || footer.makes.epoch !== header.epoch) throw wrong('position');
    if (header.direction === 'forward' && footer.makes.state !== chainState(header.follows.state, footer.logDigest)) {
      throw wrong('state');
    }
    return footer;
  }

  /** The next `size` bytes as one piece of memory, left where they are; undefined while they aren't all there. */
  #peek(size: number): Buffer | undefined {
    if (this.#buffered < size) return undefined;
    if (this.#buffer[0]!.length < size) this.#buffer = [Buffer.concat(this.#buffer, this.#buffered)];
    return this.#buffer[0]!.subarray(0, size);
  }

  #take(size: number): Buffer | undefined {
    const bytes = this.#peek(size);
    if (bytes === undefined) return undefined;
    const first = this.#buffer[0]!;
    if (first.length === size) this.#buffer.shift();
    else this.#buffer[0] = first.subarray(size);
    this.#buffered -= size;
    return bytes;
  }
}
