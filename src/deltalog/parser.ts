/**
 * Verifies the bytes of a delta log as they arrive, in pieces of any size, without keeping them: a frame's stored bytes
 * are hashed where they lie. What it has accepted (`accepted`) ends at the end of a part (header, frame, trailer), so that
 * a broken transmission costs at most one frame.
 */
import { RunningDigest } from '../lib/digest.ts';
import { Failure } from '../model/failure.ts';
import {
  checkFrameSense,
  decodeFrameHead,
  FRAME_HEAD_SIZE,
  FrameKind,
  newPieces,
  requireDigest,
  type FrameHead,
  type UnverifiedHead,
} from './frame.ts';
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
import type { Pieces } from './pieces.ts';
import { References } from './references.ts';
import { INDEX_ENTRY_SIZE, indexEntry, TRAILER_MAGIC, TRAILER_SIZE } from './writer.ts';

/** Called for each good data and zero frame and reference; `payload` are its stored bytes. While it runs, `accepted` is where the frame begins. */
export type OnFrame = (head: FrameHead, payload: Buffer) => void;

/** A frame whose stored bytes are still coming. */
interface OpenFrame {
  readonly bytes: Buffer;
  readonly head: UnverifiedHead;
  readonly pieces: Pieces;
  /** The stored bytes, where somebody needs them as one. */
  readonly kept: Buffer[] | undefined;
  left: number;
}

export class LogParser {
  /** So far. Where they lead isn't known before the log is whole: `checkReferences`. */
  readonly references = new References();
  /** Bytes of something small that isn't whole yet. */
  #pieces: Buffer[] = [];
  #gathered = 0;
  #frame: OpenFrame | undefined;
  #accepted = 0;
  #digest = new RunningDigest();
  /** Digest of the index that the frames so far make. */
  #indexDigest = new RunningDigest();
  #header: LogHeader | undefined;
  #headerSize: number | undefined;
  #footer: LogFooter | undefined;
  #complete = false;
  #frames = 0;
  #dataBytes = 0;
  #zeroBytes = 0;
  #referenceBytes = 0;
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
   * Takes some bytes. Gives the ends of the parts that became whole by them. Without `onFrame` no stored byte is copied or kept.
   * Throws `bad-log` or `format-unknown`; the parser is of no use afterwards, but for `accepted`.
   */
  push(chunk: Buffer, onFrame?: OnFrame): number[] {
    const ends: number[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#complete) {
        this.#accepted = this.#endAt; // with something behind it, it was no end
        throw new Failure('bad-log', `${chunk.length - at} bytes follow the end of the delta log`);
      }
      const before = this.#accepted;
      at = this.#take(chunk, at, onFrame);
      if (this.#accepted > before) ends.push(this.#accepted);
    }
    return ends;
  }

  /** Takes what the part under way needs of the chunk from `at` on; gives how far that is. */
  #take(chunk: Buffer, at: number, onFrame: OnFrame | undefined): number {
    const frame = this.#frame;
    if (frame !== undefined) {
      const piece = chunk.subarray(at, at + frame.left);
      frame.pieces.update(piece);
      frame.kept?.push(piece);
      frame.left -= piece.length;
      if (frame.left === 0) this.#endFrame(frame, onFrame);
      return at + piece.length;
    }
    const size = this.#sizeOfNext();
    const before = this.#gathered;
    const bytes = this.#gather(chunk, at, size);
    const taken = bytes === undefined ? chunk.length : at + size - before;
    if (bytes === undefined) return taken;
    if (this.#footer !== undefined) this.#trailer(bytes);
    else if (this.#header !== undefined) this.#beginFrame(bytes, onFrame);
    else if (this.#headerSize !== undefined) this.#takeHeader(bytes);
    else {
      this.#headerSize = headerSize(bytes);
      this.#pieces = [Buffer.from(bytes)];
      this.#gathered = bytes.length;
    }
    return taken;
  }

  #sizeOfNext(): number {
    if (this.#footer !== undefined) return TRAILER_SIZE;
    if (this.#header !== undefined) return FRAME_HEAD_SIZE;
    return this.#headerSize ?? PRELUDE_SIZE;
  }

  /** `size` bytes as one piece of memory, those gathered before included; undefined while they aren't all there. */
  #gather(chunk: Buffer, at: number, size: number): Buffer | undefined {
    const piece = chunk.subarray(at, at + size - this.#gathered);
    if (this.#gathered === 0 && piece.length === size) return piece;
    this.#pieces.push(Buffer.from(piece)); // small, and a piece of it must not hold the whole chunk
    this.#gathered += piece.length;
    if (this.#gathered < size) return undefined;
    const bytes = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#gathered = 0;
    return bytes;
  }

  #takeHeader(bytes: Buffer): void {
    const decoded = decodeHeader(bytes);
    this.#header = decoded.header;
    this.#digest.update(decoded.digest);
    this.#accepted += bytes.length;
  }

  #beginFrame(bytes: Buffer, onFrame: OnFrame | undefined): void {
    const head = decodeFrameHead(bytes);
    const isIndex = head.kind === FrameKind.index;
    if (isIndex && head.stored !== this.#frames * INDEX_ENTRY_SIZE) {
      throw new Failure('bad-log', 'the index of the delta log does not fit its frames'); // before it is waited for
    }
    const isKept = head.kind === FrameKind.end || (onFrame !== undefined && !isIndex);
    const frame: OpenFrame = {
      bytes: Buffer.from(bytes),
      head,
      pieces: newPieces(head),
      kept: isKept ? [] : undefined,
      left: head.stored,
    };
    if (frame.left === 0) this.#endFrame(frame, onFrame);
    else this.#frame = frame;
  }

  #endFrame(frame: OpenFrame, onFrame: OnFrame | undefined): void {
    this.#frame = undefined;
    const { head } = frame;
    const pieces = frame.pieces.finish();
    requireDigest(frame.bytes, head, pieces);
    checkFrameSense(head);
    const size = FRAME_HEAD_SIZE + head.stored;
    const at = this.#accepted;
    if (head.kind === FrameKind.end) {
      this.#endAt = at;
      this.#footer = this.#checkFooter(parseJson(Buffer.concat(frame.kept ?? []), footerSchema, 'footer'));
      this.#accepted += size;
      return;
    }
    if (this.#indexAt >= 0) throw new Failure('bad-log', 'a frame follows the index of the delta log');
    this.#digest.update(head.digest);
    if (head.kind === FrameKind.index) {
      const index = head.stored === 0 ? pieces : this.#indexDigest.finish(); // one piece; without frames none
      if (!pieces.equals(index)) throw new Failure('bad-log', 'the index of the delta log does not fit its frames');
      this.#indexAt = at;
    } else {
      this.#checkRange(head);
      this.#indexDigest.update(indexEntry(frame.bytes, at));
      this.#frames++;
      if (head.kind === FrameKind.data) this.#dataBytes += head.length;
      else if (head.kind === FrameKind.zero) this.#zeroBytes += head.length;
      else this.#takeReference(head);
      if (onFrame !== undefined) onFrame(head, oneOf(frame.kept ?? []));
    }
    this.#accepted += size;
  }

  #takeReference(head: FrameHead): void {
    if (this.#header!.direction === 'undo') throw new Failure('bad-log', 'an undo log holds a reference');
    this.#checkRange({ ...head, ...head.source });
    this.references.add(head);
    this.#referenceBytes += head.length;
  }

  #trailer(bytes: Buffer): void {
    if (Number(bytes.readBigUInt64LE(0)) !== this.#endAt || !bytes.subarray(8).equals(TRAILER_MAGIC)) {
      throw new Failure('bad-log', 'the trailer of the delta log is wrong');
    }
    this.#accepted += bytes.length;
    this.#complete = true;
  }

  #checkRange(head: FrameHead): void {
    const disk = this.#header!.disks[head.disk];
    if (disk === undefined) throw new Failure('bad-log', `frame for disk ${head.disk}, which the header does not name`);
    if (disk.gone === true && this.#header!.direction === 'forward') {
      throw new Failure('bad-log', `frame for ${disk.target}, which the header says is gone`);
    }
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
    const { dataBytes, zeroBytes, referenceBytes } = footer;
    if (dataBytes !== this.#dataBytes || zeroBytes !== this.#zeroBytes) throw wrong('number of bytes');
    if (referenceBytes !== this.#referenceBytes) throw wrong('number of referred bytes');
    if (footer.indexAt !== this.#indexAt) throw wrong('index');
    if (footer.logDigest !== this.#digest.finish().toString('hex')) throw wrong('digest');
    if (footer.makes.sequence !== header.sequence || footer.makes.epoch !== header.epoch) throw wrong('position');
    if (header.direction === 'forward' && footer.makes.state !== chainState(header.follows.state, footer.logDigest)) {
      throw wrong('state');
    }
    return footer;
  }
}

function oneOf(pieces: readonly Buffer[]): Buffer {
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
}
