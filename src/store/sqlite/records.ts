/** What the rows of the store must hold: anything else was damaged, or written by something else. */
import { z } from 'zod';
import { AUTO_RESYNC_PATTERN } from '../../model/auto-resync.ts';
import { DEFINITION_POLICIES } from '../../model/definition-changes.ts';
import { isFailureCode, type FailureCode } from '../../model/failure.ts';
import type { EventRecord, PeerRecord, RelationshipRecord } from '../store.ts';

const count = z.number().int().min(0);
const text = z.string().min(1);

const position = z.strictObject({ epoch: count, sequence: count, state: z.string().regex(/^[0-9a-f]{32}$/) });

const failure = z.strictObject({
  code: z.custom<FailureCode>((value) => typeof value === 'string' && isFailureCode(value), 'not a known code'),
  message: z.string(),
  hint: z.string(),
  retry: z.enum(['backoff', 'space', 'never']),
});

const copy = z.strictObject({
  mode: z.enum(['empty', 'compare', 'changed']),
  since: text.nullable().default(null),
  disk: count,
  offset: count,
  alone: z.literal(true).exactOptional(),
  blocksCompared: count,
  blocksDifferent: count,
});

const inFlight = z.strictObject({
  sequence: count,
  logId: z.string().regex(/^[0-9a-f]{32}$/),
  nextBitmap: text.nullable(),
  copyAfter: copy.nullable(),
  instant: z.number(),
  makes: position.nullable(),
});

const statistics = z.strictObject({
  cycles: count,
  idleCycles: count,
  missedCycles: count,
  failedCycles: count,
  changedBytes: count,
  unchangedBytes: count.default(0),
  sentBytes: count,
  resentBytes: count,
  // Absent in what older versions wrote.
  savedBytes: count.default(0),
  linkSpeed: z.number().positive().nullable().default(null),
  lastChangedBytes: count,
  lastSentBytes: count,
  lastJobMs: z.number(),
  maxJobMs: z.number(),
  lastCycleMs: z.number(),
});

const failover = z.strictObject({ sequence: count, instant: z.number(), started: z.number() });
const testFailover = failover.extend({ vmId: text, vmName: text });

const verification = z.strictObject({
  pass: z.strictObject({ began: count, disk: count, offset: count, leftOut: count }).nullable(),
  last: z.strictObject({ began: count, ended: count, leftOut: count }).nullable(),
  asked: z.boolean(),
  different: count,
  repaired: count,
  repairs: z.array(z.strictObject({ target: text, offset: count, length: count.min(1) })),
});

export const relationshipRecord: z.ZodType<RelationshipRecord> = z.strictObject({
  id: text,
  vmId: text,
  vmName: text,
  peer: text,
  role: z.enum(['primary', 'replica']),
  state: z.enum([
    'ReadyForInitialReplication',
    'InitialReplicationInProgress',
    'Replicating',
    'CatchingUp',
    'PreparedForFailover',
    'RecoveryInProgress',
    'FailedOverWaitingCompletion',
    'FailedOver',
    'Suspended',
    'Error',
    'WaitingForStartResynchronize',
    'Resynchronizing',
    'ResynchronizeSuspended',
    'SteppedDown',
  ]),
  epoch: count,
  intervalSeconds: z.number().positive(),
  history: count,
  thin: z.array(z.strictObject({ everySeconds: count.min(1), count: count.min(1) })).exactOptional(),
  leaseSeconds: count.exactOptional(),
  readBytesPerSecond: count.exactOptional(),
  readIops: count.exactOptional(),
  autoResync: z.string().regex(AUTO_RESYNC_PATTERN).exactOptional(),
  resync: z.strictObject({ reason: text, begin: z.enum(['by-policy', 'at-once', 'by-hand']) }).exactOptional(),
  yieldUntil: count.exactOptional(),
  stoppedByLease: z.boolean().exactOptional(),
  disks: z.array(z.strictObject({ target: text, size: count, path: text, gone: z.literal(true).exactOptional() })),
  reshaped: z.boolean().exactOptional(),
  shortest: z.array(count).exactOptional(),
  replicaPlaintext: z.boolean().exactOptional(),
  leftOut: z.array(text).exactOptional(),
  unprotected: z.array(text).exactOptional(),
  wanted: z.array(text).exactOptional(),
  joining: z.array(text).exactOptional(),
  leaving: z.array(text).exactOptional(),
  definition: z.string(),
  definitionPolicy: z.enum(DEFINITION_POLICIES).exactOptional(),
  definitionTold: z.strictObject({ digest: text, epoch: count }).exactOptional(),
  definitionTaken: z
    .strictObject({ definition: z.string(), epoch: count, time: z.number(), again: z.boolean().exactOptional() })
    .exactOptional(),
  autostart: z.boolean(),
  position,
  protectedUntil: z.number().nullable(),
  bitmap: text.nullable(),
  copy: copy.nullable(),
  inFlight: inFlight.nullable(),
  suspended: z.boolean(),
  failure: failure.nullable(),
  failover: failover.nullable(),
  test: testFailover.nullable(),
  statistics,
  verification: verification.exactOptional(),
  created: z.number(),
});

export const peerRecord: z.ZodType<PeerRecord> = z.strictObject({
  name: text,
  address: text,
  caCertificate: text,
  caFingerprint: text,
});

export const eventRecord: z.ZodType<EventRecord> = z.strictObject({
  id: z.number().int().min(1),
  time: z.number(),
  severity: z.enum(['info', 'warning', 'critical']),
  relationship: z.string().nullable(),
  kind: text,
  message: z.string(),
});
