/**
 * What a delta log says of itself: in its header where it leads from, in its footer where it leads to.
 */
import { z } from 'zod';
import { digest, digestOf, DIGEST_SIZE } from '../lib/digest.ts';
import { VERSION } from '../lib/version.ts';
import { Failure } from '../model/failure.ts';

/** See FORMAT.md. */
export const FORMAT_VERSION = 1;
/** What to do about what was written before version 1, here and in a replica's record. */
export const CURE_OF_VERSION_0 =
  'It is of a release before the formats were settled. Remove the replication and enable it again; disks that --keep-disks leaves can be its seed: see `understudy replica seed`.';
export const WRITER = `understudy/${VERSION}`;
const MAGIC = Buffer.from('UNDSTDLG', 'latin1');
export const PRELUDE_SIZE = 16;
const MAX_HEADER = 1024 * 1024;

const hex128 = z.string().regex(/^[0-9a-f]{32}$/);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

export const positionSchema = z.strictObject({ epoch: count, sequence: count, state: hex128 });

export const pointSchema = z.strictObject({
  sequence: count,
  epoch: count,
  instant: count,
  confirmed: count,
  kind: z.enum(['crash-consistent', 'planned', 'found']),
});

export const targetSchema = z.string().regex(/^[a-z][a-z0-9]{0,15}$/);
export const diskSchema = z.strictObject({
  target: targetSchema,
  size: z
    .number()
    .int()
    .min(1)
    .max(2 ** 52),
  /** The state that the log makes hasn't it any more. */
  gone: z.literal(true).exactOptional(),
});

export const headerSchema = z.strictObject({
  writer: z.string().max(100),
  /** Relationship that the log belongs to. */
  relationship: z.guid(),
  logId: hex128,
  /** `forward` takes a replica to a newer state, `undo` back to an older one. */
  direction: z.enum(['forward', 'undo']),
  disks: z
    .array(diskSchema)
    .min(1)
    .max(1000)
    .refine((disks) => new Set(disks.map(({ target }) => target)).size === disks.length, 'a disk is named twice'),
  /** Position to which alone it may be applied. */
  follows: positionSchema,
  /** Sequence and epoch of the state that it makes. */
  sequence: count,
  epoch: count,
  /** The recovery point that the state made is; null where it is none (a slice of something larger). */
  point: pointSchema.nullable(),
  /** ms since the epoch, the writer's clock. */
  created: count,
});
export type LogHeader = z.infer<typeof headerSchema>;

export const footerSchema = z.strictObject({
  makes: positionSchema,
  frames: count,
  /** Bytes of disk in data frames, in zero frames, and in references. */
  dataBytes: count,
  zeroBytes: count,
  referenceBytes: count,
  /** Where in the file the index frame begins. */
  indexAt: count,
  /** BLAKE3-128 over the header's digest and every frame's digest, in order, the index's last. */
  logDigest: hex128,
});
export type LogFooter = z.infer<typeof footerSchema>;

/** Bytes of disk that a log says something of. */
export function changedBytesOf({ dataBytes, zeroBytes, referenceBytes }: LogFooter): number {
  return dataBytes + zeroBytes + referenceBytes;
}

/** State digest after a log: what a forward log's footer must name. */
export function chainState(before: string, logDigest: string): string {
  return digestOf(Buffer.from(before, 'hex'), Buffer.from(logDigest, 'hex')).toString('hex');
}

/** Prelude, JSON and digest: the first bytes of a log. */
export function encodeHeader(header: LogHeader): { bytes: Buffer; digest: Buffer } {
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  const prelude = Buffer.alloc(PRELUDE_SIZE);
  MAGIC.copy(prelude, 0);
  prelude.writeUInt16LE(FORMAT_VERSION, 8);
  prelude.writeUInt32LE(json.length, 12);
  const body = Buffer.concat([prelude, json]);
  const sum = digest(body);
  return { bytes: Buffer.concat([body, sum]), digest: sum };
}

/** Length of the whole header by its prelude. Throws `bad-log`, or `format-unknown` naming the version. */
export function headerSize(prelude: Buffer): number {
  if (!prelude.subarray(0, 8).equals(MAGIC)) throw new Failure('bad-log', 'not a delta log: magic number missing');
  const version = prelude.readUInt16LE(8);
  if (version !== FORMAT_VERSION) {
    const message = `delta log of format version ${version}; this version reads ${FORMAT_VERSION}`;
    throw new Failure('format-unknown', message, version < FORMAT_VERSION ? { hint: CURE_OF_VERSION_0 } : {});
  }
  const length = prelude.readUInt32LE(12);
  if (length > MAX_HEADER) throw new Failure('bad-log', `delta log claims a header of ${length} bytes`);
  return PRELUDE_SIZE + length + DIGEST_SIZE;
}

/** Decodes a whole header (of `headerSize` bytes). */
export function decodeHeader(bytes: Buffer): { header: LogHeader; digest: Buffer } {
  const body = bytes.subarray(0, bytes.length - DIGEST_SIZE);
  const sum = Buffer.from(bytes.subarray(bytes.length - DIGEST_SIZE));
  if (!digest(body).equals(sum)) throw new Failure('bad-log', 'the header of the delta log does not match its digest');
  const reserved = body.readUInt16LE(10);
  if (reserved !== 0)
    throw new Failure('format-unknown', `delta log with ${reserved} at byte 10, unknown to this version`);
  const header = parseJson(body.subarray(PRELUDE_SIZE), headerSchema, 'header');
  return { header, digest: sum };
}

export function parseJson<T>(bytes: Buffer, schema: z.ZodType<T>, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new Failure('bad-log', `the ${what} of the delta log is not JSON`, { cause: error });
  }
  const result = schema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new Failure('bad-log', `the ${what} of the delta log: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  return result.data;
}
