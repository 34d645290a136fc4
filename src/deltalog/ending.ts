/** What ends a log: index, footer and trailer. */
import { RunningDigest } from '../lib/digest.ts';
import type { Position } from '../model/relationship.ts';
import { Codec, decodeSource, encodeFrameHead, FRAME_HEAD_SIZE, FrameKind, type Place } from './frame.ts';
import { chainState, type LogFooter, type LogHeader } from './header.ts';

export const TRAILER_SIZE = 16;
export const TRAILER_MAGIC = Buffer.from('GLDTSDNU', 'latin1');
export const INDEX_ENTRY_SIZE = 40;
/** Of a head, what an index holds of it: all but the digest. */
const ENTRY_HEAD = 32;

/** One data or zero frame or reference, as the index names it. */
export interface FrameEntry {
  readonly kind: typeof FrameKind.data | typeof FrameKind.zero | typeof FrameKind.reference;
  readonly disk: number;
  /** Bytes on the disk. */
  readonly offset: number;
  readonly length: number;
  /** Where the frame begins in the file. */
  readonly at: number;
  /** Bytes stored after its head. */
  readonly stored: number;
  /** Of a reference: which bytes of the log are there as well. */
  readonly source?: Place | undefined;
}

/** A log's data and zero frames and references as its end tells of them, gathered in the order of the file. */
export class Contents {
  readonly #digest = new RunningDigest();
  readonly #index: Buffer[] = [];
  frames = 0;
  dataBytes = 0;
  zeroBytes = 0;
  referenceBytes = 0;

  /** @param headerDigest of the log's header. */
  constructor(headerDigest: Buffer) {
    this.#digest.update(headerDigest);
  }

  /**
   * Takes in the heads of the frames that come next.
   * @param heads FRAME_HEAD_SIZE bytes each. @param at where in the file the first of the frames begins; they follow one another.
   */
  add(heads: Buffer, at: number): void {
    let place = at;
    for (let i = 0; i < heads.length; i += FRAME_HEAD_SIZE) {
      const head = heads.subarray(i, i + FRAME_HEAD_SIZE);
      this.#index.push(indexEntry(head, place));
      this.#digest.update(head.subarray(ENTRY_HEAD));
      const length = Number(head.readBigUInt64LE(16));
      const kind = head.readUInt8(0);
      if (kind === FrameKind.data) this.dataBytes += length;
      else if (kind === FrameKind.zero) this.zeroBytes += length;
      else this.referenceBytes += length;
      place += FRAME_HEAD_SIZE + head.readUInt32LE(4);
      this.frames++;
    }
  }

  /**
   * The last bytes of the log, and its footer.
   * @param indexAt where they begin. @param makes the position reached; computed from the chain when absent (forward logs).
   */
  end(header: LogHeader, indexAt: number, makes?: Position): { footer: LogFooter; bytes: Buffer[] } {
    const index = Buffer.concat(this.#index);
    const indexHead = headOf(FrameKind.index, index);
    this.#digest.update(indexHead.subarray(ENTRY_HEAD));
    const logDigest = this.#digest.finish().toString('hex');
    const { follows, sequence, epoch } = header;
    const { frames, dataBytes, zeroBytes, referenceBytes } = this;
    const reached = makes ?? { epoch, sequence, state: chainState(follows.state, logDigest) };
    const footer: LogFooter = { makes: reached, frames, dataBytes, zeroBytes, referenceBytes, indexAt, logDigest };
    const json = Buffer.from(JSON.stringify(footer), 'utf8');
    const trailer = Buffer.alloc(TRAILER_SIZE);
    trailer.writeBigUInt64LE(BigInt(indexAt + FRAME_HEAD_SIZE + index.length), 0);
    TRAILER_MAGIC.copy(trailer, 8);
    return { footer, bytes: [indexHead, index, headOf(FrameKind.end, json), json, trailer] };
  }
}

function headOf(kind: FrameKind, payload: Buffer): Buffer {
  return encodeFrameHead({ kind, codec: Codec.none, disk: 0, stored: payload.length, offset: 0, length: 0 }, payload);
}

/** What an index holds of a frame: its head without the digest, and where it begins in the file. */
export function indexEntry(head: Buffer, at: number): Buffer {
  const entry = Buffer.allocUnsafe(INDEX_ENTRY_SIZE);
  head.copy(entry, 0, 0, ENTRY_HEAD);
  entry.writeBigUInt64LE(BigInt(at), ENTRY_HEAD);
  return entry;
}

/** An entry of an index; undefined for a kind that can't be in one. */
export function decodeEntry(entry: Buffer): FrameEntry | undefined {
  const kind = entry.readUInt8(0);
  if (kind !== FrameKind.data && kind !== FrameKind.zero && kind !== FrameKind.reference) return undefined;
  return {
    kind,
    disk: entry.readUInt16LE(2),
    stored: entry.readUInt32LE(4),
    offset: Number(entry.readBigUInt64LE(8)),
    length: Number(entry.readBigUInt64LE(16)),
    at: Number(entry.readBigUInt64LE(32)),
    source: decodeSource(entry, kind),
  };
}
