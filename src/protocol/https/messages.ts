import * as z from 'zod';
import { AUTO_RESYNC_PATTERN } from '../../model/auto-resync.ts';
import { DEFINITION_POLICIES } from '../../model/definition-changes.ts';
import { Failure } from '../../model/failure.ts';
import { LEASE_SECONDS } from '../../model/lease.ts';
import type { Position, ReplicationState } from '../../model/relationship.ts';
import {
  DIGEST_BYTES,
  MAX_DAMAGE,
  MAX_PAGES,
  MAX_RUNS,
  MAX_VERIFY,
  type BlockQuestion,
  type LogName,
  type PageQuestion,
  type PrepareReplica,
  type ReplicaStatus,
  type TakeOver,
  type VerifyAnswer,
  type VerifyQuestion,
} from '../endpoint.ts';
import { PAGE } from '../page-digest.ts';
import { MAX_DIGESTS } from './wire.ts';

/** Epochs and sequences grow by one; 2^48 of them last for ever and leave room for arithmetic. */
const counter = z
  .int()
  .min(0)
  .max(2 ** 48);
const bytes = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const instant = z
  .int()
  .min(0)
  .max(2 ** 48);
/** Names made by us: nothing in them can be a path. */
const id = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/);
const target = z.string().regex(/^[a-z][a-z0-9]{0,15}$/);
const digest = z.string().regex(/^[0-9a-f]{32}$/);
/** A VM's name as libvirt allows it: shown to people, never a path. */
const vmName = z.string().regex(/^(?!\.{1,2}$)[^\p{Cc}/]{1,255}$/u);

/** Numbers in a path or query, written in decimal digits only. */
const decimal = <T extends z.ZodType<unknown, number>>(shape: T): z.ZodType<z.output<T>, string> =>
  z
    .string()
    .regex(/^(0|[1-9][0-9]{0,15})$/)
    .transform(Number)
    .pipe(shape);

const flag = z.enum(['true', 'false']).transform((text) => text === 'true');

const PositionShape: z.ZodType<Position> = z.strictObject({ epoch: counter, sequence: counter, state: digest });

export const IdShape: z.ZodType<string> = id;
export const TargetShape: z.ZodType<string> = target;
export const LogNameShape: z.ZodType<LogName, { sequence: string; logId: string }> = z.object({
  sequence: decimal(counter),
  logId: digest,
});
/** An upload's own name, random. */
export const UploadShape: z.ZodType<string> = digest;
export const OffsetShape: z.ZodType<{ offset: number; upload?: string }> = z.strictObject({
  offset: decimal(bytes),
  upload: UploadShape.exactOptional(),
});
export const DigestRangeShape: z.ZodType<Omit<BlockQuestion, 'target'>> = z.strictObject({
  from: decimal(counter),
  count: decimal(z.int().min(1).max(MAX_DIGESTS)),
  reread: flag.exactOptional(),
});
export const RemoveShape: z.ZodType<{ keepDisks: boolean }> = z.strictObject({
  keepDisks: flag,
});

const leaseSeconds = z.int().min(0).max(LEASE_SECONDS.max);

export const LeaseShape: z.ZodType<{ seconds: number }> = z.strictObject({
  seconds: z.int().min(LEASE_SECONDS.min).max(LEASE_SECONDS.max),
});

export const PrepareShape: z.ZodType<PrepareReplica> = z.strictObject({
  id,
  vmId: id,
  vmName,
  definition: z.string().max(1024 * 1024),
  definitionPolicy: z.enum(DEFINITION_POLICIES).exactOptional(),
  disks: z
    .array(z.strictObject({ target, size: bytes.min(1) }))
    .min(1)
    .max(256)
    .refine((disks) => new Set(disks.map((disk) => disk.target)).size === disks.length, 'two disks of one target'),
  epoch: counter,
  intervalSeconds: z
    .number()
    .positive()
    .max(30 * 24 * 3600),
  history: z.int().min(0).max(10_000),
  autostart: z.boolean().exactOptional(),
  leaseSeconds: leaseSeconds.exactOptional(),
  autoResync: z.string().regex(AUTO_RESYNC_PATTERN).exactOptional(),
  thin: z
    .array(z.strictObject({ everySeconds: counter.min(1), count: z.int().min(1).max(10_000) }))
    .max(16)
    .exactOptional(),
  base: z.enum(['empty', 'compare', 'continue']),
  start: PositionShape.exactOptional(),
  needs: bytes.exactOptional(),
});

export const ConfirmShape: z.ZodType<{ position: Position; instant: number }> = z.strictObject({
  position: PositionShape,
  instant,
});

/** On the wire a run is its first page and its number of bytes. */
export const PageQuestionShape: z.ZodType<PageQuestion> = z
  .strictObject({
    target,
    position: PositionShape,
    salt: digest,
    runs: z
      .array(
        z.tuple([
          counter,
          z
            .int()
            .min(1)
            .max(MAX_PAGES * PAGE),
        ]),
      )
      .min(1)
      .max(MAX_RUNS),
  })
  .transform((question) => {
    const runs = question.runs.map(([page, length]) => ({ offset: page * PAGE, length }));
    return { ...question, runs };
  });

/** What `PageQuestionShape` reads. */
export function writtenQuestion({ runs, ...question }: PageQuestion): object {
  return { ...question, runs: runs.map(({ offset, length }) => [offset / PAGE, length]) };
}

/** On the wire digests are base64. */
export const VerifyQuestionShape: z.ZodType<VerifyQuestion> = z
  .strictObject({
    target,
    position: PositionShape,
    from: counter,
    digests: z.base64().max(Math.ceil((MAX_VERIFY * DIGEST_BYTES) / 3) * 4),
    changed: z.array(z.int().min(0).max(MAX_VERIFY)).max(MAX_VERIFY),
  })
  .transform((question) => ({ ...question, digests: Buffer.from(question.digests, 'base64') }))
  .refine(({ digests }) => digests.length > 0 && digests.length % DIGEST_BYTES === 0, 'not a number of digests');

/** What `VerifyQuestionShape` reads. */
export function writtenVerification({ digests, ...question }: VerifyQuestion): object {
  return { ...question, digests: Buffer.from(digests).toString('base64') };
}

export const VerifyAnswerShape: z.ZodType<VerifyAnswer> = z.object({
  different: z
    .array(z.object({ block: counter, side: z.enum(['replica', 'primary', 'both', 'unknown']) }))
    .max(MAX_VERIFY),
});

export const TakeOverShape: z.ZodType<TakeOver> = z.strictObject({
  planId: id,
  epoch: counter,
  position: PositionShape,
  start: z.boolean(),
});

const STATES = {
  ReadyForInitialReplication: 0,
  InitialReplicationInProgress: 0,
  Replicating: 0,
  CatchingUp: 0,
  PreparedForFailover: 0,
  RecoveryInProgress: 0,
  FailedOverWaitingCompletion: 0,
  FailedOver: 0,
  Suspended: 0,
  Error: 0,
  WaitingForStartResynchronize: 0,
  Resynchronizing: 0,
  ResynchronizeSuspended: 0,
  SteppedDown: 0,
} as const satisfies Record<ReplicationState, 0>;

export const StatusShape: z.ZodType<ReplicaStatus> = z.object({
  id,
  role: z.enum(['primary', 'replica']),
  state: z.enum(Object.keys(STATES) as [ReplicationState, ...ReplicationState[]]),
  epoch: counter,
  received: PositionShape,
  applied: PositionShape,
  vmRunning: z.boolean(),
  suspended: z.boolean().exactOptional(),
  missingBytes: bytes.exactOptional(),
  lacking: z.array(z.string().max(1024)).max(64).exactOptional(),
  encrypted: z.array(target).max(256).exactOptional(),
  leaseSeconds: leaseSeconds.exactOptional(),
  damage: z
    .array(z.object({ target, offset: bytes, length: bytes.min(1) }))
    .max(MAX_DAMAGE)
    .exactOptional(),
});

export const DurableShape: z.ZodType<{ durable: number }> = z.object({ durable: bytes });

/** What a host says of itself. */
export interface Hello {
  readonly name: string;
  /** Version of its software. */
  readonly version: string;
  /** Wire versions that it speaks. */
  readonly wires: readonly number[];
  /** ms since the epoch, its clock, when it answered. */
  readonly time: number;
}

export const HelloShape: z.ZodType<Hello> = z.object({
  name: z.string().max(253),
  version: z.string().max(64),
  wires: z.array(z.int().min(0).max(65535)).max(64),
  time: instant,
});

export const FailureShape = z.object({
  code: z.string().max(64),
  message: z.string().max(4096),
  hint: z.string().max(4096),
});

/** Reads what came from the wire, or throws a Failure (`bad-request` unless told otherwise) that names the wrong field. */
export function read<T>(
  shape: z.ZodType<T>,
  value: unknown,
  what: string,
  code: 'bad-request' | 'format-unknown' = 'bad-request',
): T {
  const result = shape.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? '' : ` at ${issue.path.join('.')}`;
  throw new Failure(code, `Bad ${what}${where}: ${issue?.message ?? 'not understood'}`.slice(0, 500));
}
