/**
 * The frame: the unit of a delta log, checked by itself. See FORMAT.md for the bytes.
 */
import { DIGEST_SIZE, digestOf } from '../lib/digest.ts';
import { Failure } from '../model/failure.ts';

export const FRAME_HEAD_SIZE = 48;
const CHECKED_HEAD = FRAME_HEAD_SIZE - DIGEST_SIZE;

/** Most bytes of disk in one data frame; also bounds what a reader must hold. */
export const MAX_DATA_LENGTH = 4 * 1024 * 1024;
/** Most stored bytes of one data frame. */
const MAX_STORED_DATA = MAX_DATA_LENGTH;
/** Most stored bytes of an index or end frame: an index entry of 48 bytes for each of 8 million frames. */
const MAX_STORED_INDEX = 384 * 1024 * 1024;

export const FrameKind = { data: 1, zero: 2, reference: 3, part: 4, index: 254, end: 255 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export const Codec = { none: 0, zstd: 1 } as const;
export type Codec = (typeof Codec)[keyof typeof Codec];

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
  /** BLAKE3-128 over the head's first 32 bytes and the stored bytes. */
  readonly digest: Buffer;
}

/** Encodes a head, computing its digest over head and payload. */
export function encodeFrameHead(head: Omit<FrameHead, 'digest'>, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(FRAME_HEAD_SIZE);
  bytes.writeUInt8(head.kind, 0);
  bytes.writeUInt8(head.codec, 1);
  bytes.writeUInt16LE(head.disk, 2);
  bytes.writeUInt32LE(head.stored, 4);
  bytes.writeBigUInt64LE(BigInt(head.offset), 8);
  bytes.writeBigUInt64LE(BigInt(head.length), 16);
  const sum = digestOf(bytes.subarray(0, CHECKED_HEAD), payload);
  sum.copy(bytes, CHECKED_HEAD);
  return bytes;
}

function narrow(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Failure('bad-log', `frame ${what} ${value} is out of range`);
  return Number(value);
}

/**
 * Decodes a head. What it says is bounded here, before anything is allocated by it; whether it is true is for
 * `verifyFrame`. Throws `bad-log`, or `format-unknown` for a kind or codec of a later version.
 */
export function decodeFrameHead(bytes: Buffer): FrameHead {
  const kind = bytes.readUInt8(0);
  const codec = bytes.readUInt8(1);
  const stored = bytes.readUInt32LE(4);
  if (!isKnownKind(kind)) throw new Failure('format-unknown', `frame kind ${kind} is not known to this version`);
  if (codec !== Codec.none && codec !== Codec.zstd) {
    throw new Failure('format-unknown', `codec ${codec} is not known to this version`);
  }
  const head: FrameHead = {
    kind,
    codec,
    disk: bytes.readUInt16LE(2),
    stored,
    offset: narrow(bytes.readBigUInt64LE(8), 'offset'),
    length: narrow(bytes.readBigUInt64LE(16), 'length'),
    digest: Buffer.from(bytes.subarray(CHECKED_HEAD, FRAME_HEAD_SIZE)),
  };
  const limit = kind === FrameKind.data ? MAX_STORED_DATA : kind === FrameKind.zero ? 0 : MAX_STORED_INDEX;
  if (stored > limit) throw new Failure('bad-log', `frame of kind ${kind} claims ${stored} bytes, more than ${limit}`);
  if (kind === FrameKind.data && (head.length === 0 || head.length > MAX_DATA_LENGTH)) {
    throw new Failure('bad-log', `data frame claims ${head.length} bytes of disk`);
  }
  if (kind === FrameKind.data && codec === Codec.none && head.length !== stored) {
    throw new Failure('bad-log', `plain data frame of ${head.length} bytes stores ${stored}`);
  }
  return head;
}

function isKnownKind(kind: number): kind is FrameKind {
  return kind === FrameKind.data || kind === FrameKind.zero || kind === FrameKind.index || kind === FrameKind.end;
}

/** Throws `bad-log` unless the digest in the head fits head and payload. */
export function verifyFrame(headBytes: Buffer, head: FrameHead, payload: Buffer): void {
  if (payload.length !== head.stored) {
    throw new Failure(
      'bad-log',
      `frame at disk ${head.disk}+${head.offset} has ${payload.length} of ${head.stored} bytes`,
    );
  }
  if (!digestOf(headBytes.subarray(0, CHECKED_HEAD), payload).equals(head.digest)) {
    throw new Failure('bad-log', `frame at disk ${head.disk}+${head.offset} does not match its digest`);
  }
}
