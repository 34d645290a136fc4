/**
 * Numbers and layouts of the NBD protocol, fixed newstyle with structured replies: the part that QEMU, libnbd and we
 * speak. From the protocol's own document, doc/proto.md of NetworkBlockDevice/nbd. All integers are big-endian.
 */

export const MAGIC_GREETING = 0x4e42444d41474943n; // NBDMAGIC
export const MAGIC_OPTION = 0x49484156454f5054n; // IHAVEOPT
export const MAGIC_OPTION_REPLY = 0x3e889045565a9n;
export const MAGIC_REQUEST = 0x25609513;
export const MAGIC_SIMPLE_REPLY = 0x67446698;
export const MAGIC_STRUCTURED_REPLY = 0x668e33ef;

/** Bits of the server's greeting; the client's answer has them at the same places. */
export const FIXED_NEWSTYLE = 1;
export const NO_ZEROES = 2;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const REPLY = { ack: 1, server: 2, info: 3, metaContext: 4 } as const;
export const REPLY_ERROR_BIT = 0x80000000;
export const REPLY_ERROR = {
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  unknownExport: 0x80000006,
  tooBig: 0x80000009,
} as const;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6, blockStatus: 7 } as const;
export const COMMAND_FLAG = { fua: 1, noHole: 2, dontFragment: 4, oneExtent: 8 } as const;

/** What an export can do, in its flags. */
export const TRANSMISSION = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendFua: 8,
  sendTrim: 32,
  sendWriteZeroes: 64,
  sendDontFragment: 128,
  canMultiConnect: 256,
} as const;

export const CHUNK_DONE = 1;
export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 32769,
  errorOffset: 32770,
} as const;
export const CHUNK_ERROR_BIT = 0x8000;

/** Meta context of holes, and the bits of its extents. */
export const BASE_ALLOCATION = 'base:allocation';
export const ALLOCATION = { hole: 1, zero: 2 } as const;

/** Errors as they travel. */
export const ERRNO = { EPERM: 1, EIO: 5, EINVAL: 22, ENOSPC: 28, EOVERFLOW: 75, ENOTSUP: 95, ESHUTDOWN: 108 } as const;
const ERRNO_NAMES = new Map<number, string>([
  ...Object.entries(ERRNO).map(([n, v]) => [v, n] as const),
  [12, 'ENOMEM'],
]);

export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `error ${errno}`;
}

/** Largest payload of a read or write that every peer takes (proto.md, "Block size constraints"), bytes. */
export const MAX_PAYLOAD = 32 * 1024 * 1024;
/** Longest export or context name, bytes (proto.md). */
export const MAX_STRING = 4096;

export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_HEADER_BYTES = 20;

/** One request's header. `handle` comes back in its replies: an integer below 2^32. */
export function encodeRequest(
  command: number,
  flags: number,
  handle: number,
  offset: number,
  length: number,
): Buffer<ArrayBuffer> {
  const head = Buffer.allocUnsafe(REQUEST_BYTES);
  head.writeUInt32BE(MAGIC_REQUEST, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(command, 6);
  head.writeUInt32BE(0, 8);
  head.writeUInt32BE(handle, 12);
  head.writeBigUInt64BE(BigInt(offset), 16);
  head.writeUInt32BE(length, 24);
  return head;
}

/** One option of the negotiation, sent by a client. */
export function encodeOption(option: number, data: Uint8Array = Buffer.alloc(0)): Buffer<ArrayBuffer> {
  const head = Buffer.allocUnsafe(16);
  head.writeBigUInt64BE(MAGIC_OPTION, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(data.length, 12);
  return Buffer.concat([head, data]);
}

/** A string with its length before it, as names travel. */
export function encodeString(text: string): Buffer<ArrayBuffer> {
  const bytes = Buffer.from(text, 'utf8');
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(bytes.length, 0);
  return Buffer.concat([length, bytes]);
}

export function encodeU16(value: number): Buffer<ArrayBuffer> {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeUInt16BE(value, 0);
  return bytes;
}

export function encodeU32(...values: number[]): Buffer<ArrayBuffer> {
  const bytes = Buffer.allocUnsafe(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
  return bytes;
}

/** A 64-bit integer as a number; undefined when it is 2^53 or more. */
export function narrow(value: bigint): number | undefined {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
}
