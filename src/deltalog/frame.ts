/**
 * The frame: the unit of a delta log, checked by itself. See FORMAT.md for the bytes.
 */
import { DIGEST_SIZE, digestOf } from '../lib/digest.ts';
import { Failure } from '../model/failure.ts';
import { BLOCK, Pieces } from './pieces.ts';

export const FRAME_HEAD_SIZE = 48;
/** Bytes of a head that its digest stands for, with the digests of the pieces of the stored bytes. */
export const CHECKED_HEAD = FRAME_HEAD_SIZE - DIGEST_SIZE;

/** Most bytes of disk in one data frame; also bounds what a reader must hold. */
export const MAX_DATA_LENGTH = 4 * 1024 * 1024;
/** References name whole blocks of so many bytes: the blocks of the digests. */
export const REFERENCE_BLOCK = BLOCK;
/** Most stored bytes of one data frame. */
const MAX_STORED_DATA = MAX_DATA_LENGTH;
/** Most stored bytes of an index: an entry of 40 bytes for each of more than 10 million frames. */
const MAX_STORED_INDEX = 400 * 1024 * 1024;
/** Most stored bytes of any other frame, also of kinds that a later version may know. */
const MAX_STORED_OTHER = 64 * 1024;

export const FrameKind = { data: 1, zero: 2, reference: 3, part: 4, index: 254, end: 255 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export const Codec = { none: 0, zstd: 1 } as const;
export type Codec = (typeof Codec)[keyof typeof Codec];

/** Bytes of a disk. */
export interface Place {
  /** Index of the disk in the header's list. */
  readonly disk: number;
  /** Bytes; a multiple of REFERENCE_BLOCK. */
  readonly offset: number;
}

export interface FrameHead {
  readonly kind: FrameKind;
  readonly codec: Codec;
  /** Index of the disk in the header's list. */
  readonly disk: number;
  /** Bytes that follow the head in the log. */
  readonly stored: number;
  /** Where on the disk, bytes. */
  readonly offset: number;
  /** How many bytes of the disk. */
  readonly length: number;
  /** Of a reference: which bytes of the log are there as well. */
  readonly source?: Place | undefined;
  /** BLAKE3-128 over the head's first 32 bytes and the digests of the pieces of the stored bytes. */
  readonly digest: Buffer;
}

/** A head as it was read: nothing in it is true before `verifyFrame` has said so. */
export type UnverifiedHead = Omit<FrameHead, 'kind' | 'codec'> & { readonly kind: number; readonly codec: number };

/** Encodes a head with its digest. @param pieces digests of the payload's pieces, where they are known. */
export function encodeFrameHead(head: Omit<FrameHead, 'digest'>, payload: Buffer, pieces?: Buffer): Buffer {
  const bytes = Buffer.alloc(FRAME_HEAD_SIZE);
  bytes.writeUInt8(head.kind, 0);
  bytes.writeUInt8(head.codec, 1);
  bytes.writeUInt16LE(head.disk, 2);
  bytes.writeUInt32LE(head.stored, 4);
  bytes.writeBigUInt64LE(BigInt(head.offset), 8);
  bytes.writeBigUInt64LE(BigInt(head.length), 16);
  if (head.source !== undefined) {
    bytes.writeUIntLE(head.source.offset / REFERENCE_BLOCK, SOURCE_AT, 6);
    bytes.writeUInt16LE(head.source.disk, SOURCE_AT + 6);
  }
  digestOf(bytes.subarray(0, CHECKED_HEAD), pieces ?? piecesOf(head, payload)).copy(bytes, CHECKED_HEAD);
  return bytes;
}

/** Takes the digests of the pieces of a frame's stored bytes. */
export function newPieces({ kind, codec, offset, stored }: Omit<UnverifiedHead, 'digest'>): Pieces {
  return new Pieces(stored, kind === FrameKind.data && codec === Codec.none ? offset : undefined);
}

/** @param payload all that the frame stores. */
export function piecesOf(head: Omit<UnverifiedHead, 'digest'>, payload: Buffer): Buffer {
  const pieces = newPieces(head);
  pieces.update(payload);
  return pieces.finish();
}

/** In a head, and so in an entry of the index. */
const SOURCE_AT = 24;

/** Source in a head or an entry of the index; where there is none its bytes are zeros: undefined, unless a reference says so. */
export function decodeSource(bytes: Buffer, kind: number): Place | undefined {
  const block = bytes.readUIntLE(SOURCE_AT, 6);
  const disk = bytes.readUInt16LE(SOURCE_AT + 6);
  if (kind !== FrameKind.reference && block === 0 && disk === 0) return undefined;
  return { disk, offset: block * REFERENCE_BLOCK };
}

function narrow(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Failure('bad-log', `frame ${what} ${value} is out of range`);
  return Number(value);
}

/**
 * Decodes a head. How much it makes a reader hold is bounded here, before anything is allocated by it; whether it is true
 * is for `verifyFrame`. Throws `bad-log`.
 */
export function decodeFrameHead(bytes: Buffer): UnverifiedHead {
  const kind = bytes.readUInt8(0);
  const head: UnverifiedHead = {
    kind,
    codec: bytes.readUInt8(1),
    disk: bytes.readUInt16LE(2),
    stored: bytes.readUInt32LE(4),
    offset: narrow(bytes.readBigUInt64LE(8), 'offset'),
    length: narrow(bytes.readBigUInt64LE(16), 'length'),
    source: decodeSource(bytes, kind),
    digest: Buffer.from(bytes.subarray(CHECKED_HEAD, FRAME_HEAD_SIZE)),
  };
  const limit = mostStored(head.kind);
  if (head.stored > limit) {
    throw new Failure('bad-log', `frame of kind ${head.kind} claims ${head.stored} bytes, more than ${limit}`);
  }
  return head;
}

function mostStored(kind: number): number {
  if (kind === FrameKind.data) return MAX_STORED_DATA;
  if (kind === FrameKind.zero || kind === FrameKind.reference) return 0;
  return kind === FrameKind.index ? MAX_STORED_INDEX : MAX_STORED_OTHER;
}

/** A frame that is what was written. */
export interface VerifiedFrame {
  readonly head: FrameHead;
  /** Digests of the pieces of its payload. */
  readonly pieces: Buffer;
}

/**
 * Throws `bad-log` unless the digest in the head fits head and payload, and the head makes sense; `format-unknown` for a
 * frame that is whole, but of a kind or codec of a later version: a flipped bit is never taken for one.
 */
export function verifyFrame(headBytes: Buffer, head: UnverifiedHead, payload: Buffer): VerifiedFrame {
  if (payload.length !== head.stored) {
    throw new Failure('bad-log', `${whereIs(head)} has ${payload.length} of ${head.stored} bytes`);
  }
  const pieces = piecesOf(head, payload);
  requireDigest(headBytes, head, pieces);
  checkFrameSense(head);
  return { head, pieces };
}

/** The first half of `verifyFrame`. @param pieces digests of what is there. */
export function requireDigest(headBytes: Buffer, head: UnverifiedHead, pieces: Buffer): void {
  if (digestOf(headBytes.subarray(0, CHECKED_HEAD), pieces).equals(head.digest)) return;
  throw new Failure('bad-log', `${whereIs(head)} does not match its digest`);
}

/** The second half of `verifyFrame`, for a head whose digest fits. */
export function checkFrameSense(head: UnverifiedHead): asserts head is FrameHead {
  const where = whereIs(head);
  const { kind, codec, length, stored } = head;
  if (!KNOWN_KINDS.has(kind)) throw new Failure('format-unknown', `frame kind ${kind} is not known to this version`);
  if (codec !== Codec.none && codec !== Codec.zstd) {
    throw new Failure('format-unknown', `codec ${codec} is not known to this version`);
  }
  if (kind === FrameKind.data ? length === 0 || length > MAX_DATA_LENGTH : codec !== Codec.none) {
    throw new Failure('bad-log', `${where}, kind ${kind}, claims ${length} bytes of disk with codec ${codec}`);
  }
  if (kind === FrameKind.data && codec === Codec.none && length !== stored) {
    throw new Failure('bad-log', `plain ${where} of ${length} bytes stores ${stored}`);
  }
  if (kind === FrameKind.data && stored === 0)
    throw new Failure('bad-log', `${where} of ${length} bytes stores nothing`);
  if ((kind === FrameKind.index || kind === FrameKind.end) && (head.disk !== 0 || head.offset !== 0 || length !== 0)) {
    throw new Failure('bad-log', `${where}, kind ${kind}, claims a place on a disk`);
  }
  if (kind === FrameKind.zero && length === 0) throw new Failure('bad-log', `${where} is empty`);
  if (kind === FrameKind.reference) checkReferenceSense(head, where);
  else if (head.source !== undefined) throw new Failure('bad-log', `${where}, kind ${kind}, has a source`);
}

function checkReferenceSense({ offset, length }: UnverifiedHead, where: string): void {
  const isWhole = offset % REFERENCE_BLOCK === 0 && length % REFERENCE_BLOCK === 0;
  if (isWhole && length > 0 && length <= MAX_DATA_LENGTH) return;
  throw new Failure('bad-log', `reference ${where} is of ${length} bytes: not of whole blocks`);
}

function whereIs(head: UnverifiedHead): string {
  return `frame at disk ${head.disk}+${head.offset}`;
}

const KNOWN_KINDS: ReadonlySet<number> = new Set([
  FrameKind.data,
  FrameKind.zero,
  FrameKind.reference,
  FrameKind.index,
  FrameKind.end,
]);
