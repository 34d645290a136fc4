/**
 * One replication cycle: all disks at one instant, what changed since the last acknowledged position, sent, acknowledged.
 */
import { changedBytesOf } from '../deltalog/header.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { totalLength, type ChangedExtent } from '../model/extent.ts';
import { Failure } from '../model/failure.ts';
import type { RecoveryPoint } from '../model/relationship.ts';
import { after } from '../model/state.ts';
import type { Point } from '../hypervisor/hypervisor.ts';
import type { LogInFlight } from '../store/store.ts';
import type { Repair } from '../model/verification.ts';
import { PointReader } from './capture.ts';
import { withGained } from './disks.ts';
import type { KnownPages, LearnedOfDisks } from './known-blocks.ts';
import { stampAtRest } from './images.ts';
import { withPoint } from './open-point.ts';
import type { GrowingLog } from './outbox.ts';
import { itemSize, readingMs } from './pace.ts';
import { PackingLevel } from './packing.ts';
import { forgetRepairs, hasRepairs, withRepairs } from './repairs.ts';
import type { Replication } from './replication.ts';
import { startSending } from './sending.ts';
import { isWorthThinning, sendThinned } from './thin.ts';
import { readAlong, type ReadSlice } from './verify.ts';
import { workOf, type ItemSize, type Work } from './work.ts';

/** For so long, ms, a point may be held open longer because the link is slow: it is little beside what opening one takes. */
const PATIENCE_MS = 250;

export interface CycleResult {
  /** Of the images of a VM that is off and in which nothing had changed, as they were read. */
  readonly stamp?: string;
  readonly instant: number;
  readonly changedBytes: number;
  readonly sentBytes: number;
  readonly jobMs: number;
  /** What was read to be compared. */
  readonly read: readonly ReadSlice[];
  /** What the replica says is damaged there. */
  readonly damage: readonly Repair[];
}

/**
 * Runs a cycle. On any failure nothing is open, no bitmap is lost, and the next cycle has it all.
 * @param kind what the recovery point is called; `planned`: the VM is off for good, this is its last state here.
 */
export async function runCycle(
  replication: Replication,
  kind: RecoveryPoint['kind'],
  signal: AbortSignal,
): Promise<CycleResult> {
  const { steady, endpoint, hypervisor, known } = replication.services;
  const { bitmap, position, disks, vmId } = replication.record;
  const started = steady();
  replication.enter('reading');
  // A guest that ran at the point may have written behind it, and be off by now.
  const wasOff = (await hypervisor.vmStatus(vmId)).state === 'off';
  const inFlight = replication.intend({ nextBitmap: nextBitmap(replication), copyAfter: null });
  const pages = await known.at(replication.record, disks);
  await forgetRepairs(replication);
  let captured: { result: Captured & { readonly read: readonly ReadSlice[] }; jobMs: number };
  try {
    crashPoint('cycle:intended');
    const request = { since: bitmap, next: inFlight.nextBitmap, due: replication.due };
    captured = await withPoint(replication, request, signal, async (point, held) => {
      crashPoint('cycle:opened');
      const found = await capture(replication, { inFlight, point, kind, known: pages }, { held, signal });
      return { ...found, read: await readAlong(replication, point, held) };
    });
  } catch (error) {
    // A whole log may be at the replica already: then only `reconcile` can tell what it is worth.
    if (replication.record.inFlight?.makes === null) await replication.discard(inFlight);
    throw error;
  }
  const { result, jobMs } = captured;
  const { statistics } = replication.record;
  const unchangedBytes = statistics.unchangedBytes + result.unchangedBytes;
  if (result.log === undefined) {
    if (result.unchangedBytes === 0) await replication.discard(inFlight);
    else await replication.unchanged(inFlight);
    // Before anything is waited for: what is written meanwhile has another one.
    const stamp = wasOff ? await stampAtRest(replication) : undefined;
    const { damage = [] } = await endpoint.confirm(replication.id, position, result.instant, signal);
    replication.update({
      protectedUntil: result.instant,
      failure: null,
      ...after(replication.record, 'point-made'),
    });
    replication.count({
      idleCycles: statistics.idleCycles + 1,
      unchangedBytes,
      ...lastOf(0, 0, jobMs, steady() - started),
    });
    replication.enter('waiting');
    const { instant, read } = result;
    const idle = { instant, changedBytes: 0, sentBytes: 0, jobMs, read, damage };
    return stamp === undefined ? idle : { ...idle, stamp };
  }
  replication.enter('sending');
  crashPoint('cycle:closed');
  await known.expect(replication.record.inFlight!.makes!, result.learned);
  const status = await (result.sending ?? sendThinned(replication, result.log, signal));
  crashPoint('cycle:acknowledged');
  const { send, logBytes } = replication.activity;
  await replication.acknowledged(replication.record.inFlight!, status.received, {
    cycles: statistics.cycles + 1,
    changedBytes: statistics.changedBytes + result.changedBytes,
    unchangedBytes,
    ...replication.sentBy(send),
    ...lastOf(result.changedBytes, send.sent, jobMs, steady() - started),
  });
  replication.enter('waiting');
  const { instant, changedBytes, read } = result;
  const { damage = [] } = status;
  return { instant, changedBytes, sentBytes: logBytes, jobMs, read, damage };

  function lastOf(lastChangedBytes: number, lastSentBytes: number, lastJobMs: number, lastCycleMs: number) {
    const maxJobMs = Math.max(statistics.maxJobMs, lastJobMs);
    return { lastChangedBytes, lastSentBytes, lastJobMs, maxJobMs, lastCycleMs };
  }
}

interface Captured {
  readonly instant: number;
  readonly changedBytes: number;
  /** Written again by the guest, and the same as before. */
  readonly unchangedBytes: number;
  readonly learned: LearnedOfDisks;
  /** Undefined when nothing had changed. */
  readonly log: GrowingLog | undefined;
  /** Undefined when the log isn't to be sent as it is. */
  readonly sending: ReturnType<typeof startSending> | undefined;
}

const NOTHING_CHANGED = { changedBytes: 0, unchangedBytes: 0, learned: [], log: undefined, sending: undefined };

interface CaptureRequest {
  readonly inFlight: LogInFlight;
  readonly point: Point;
  readonly kind: RecoveryPoint['kind'];
  /** What the replica is known to have, by disk. */
  readonly known: readonly (KnownPages | undefined)[];
}

/** Of the instant that is about to be read: the present one may have that name already, if nothing had changed since. */
function nextBitmap(replication: Replication): string {
  const { bitmap, position } = replication.record;
  const name = replication.bitmapName(position.sequence + 1);
  return bitmap === name ? `${name}-again` : name;
}

/** Until when to go on: reading while the point is held, sending until replication is stopped. */
export interface Signals {
  readonly held: AbortSignal;
  readonly signal: AbortSignal;
}

/** Reads the open point into a log; sending begins meanwhile and goes on after, unless the log is to be made thinner first. */
async function capture(
  replication: Replication,
  { inFlight, point, kind, known }: CaptureRequest,
  { held, signal }: Signals,
): Promise<Captured> {
  const { outbox, lanes } = replication.services;
  const { epoch, copy, reshaped = false } = replication.record;
  const { instant } = point;
  // The cycle that closes a copy makes the point, even when nothing changed since the copy began; and disks follow by a log.
  const mayBeEmpty = copy !== null || reshaped;
  await using reader = new PointReader(point, replication.record.disks);
  const changes: ChangedExtent[][] = [];
  for (const [disk, { gone }] of replication.record.disks.entries()) {
    if (gone === true) {
      changes.push([]);
      continue;
    }
    const written = await reader.changed(disk, 0, reader.size(disk));
    const dirty = await withGained(replication, reader, disk, written);
    changes.push(await withRepairs(replication, reader, disk, dirty));
  }
  if (!mayBeEmpty && changes.every((extents) => extents.length === 0)) {
    return { ...NOTHING_CHANGED, instant };
  }
  const limit = await replication.services.outboxLimit();
  const expected = estimate(replication, changes);
  refuseTooMuch(expected, limit);
  const { readLimit, pace } = replication;
  refuseTooLong(readingMs(changes.flat(), readLimit), replication.services.pointLimits.openMs);
  const { sequence } = inFlight;
  const header = replication.header(inFlight, { sequence, epoch, instant, confirmed: instant, kind });
  const bytes = totalLength(changes.flat().filter(({ zero }) => !zero));
  const log = await outbox.begin(header, bytes);
  const given = new AbortController();
  // The replica takes what is sent again as a whole.
  const thins = !hasRepairs(replication) && !reshaped && isWorthThinning(replication, expected, bytes);
  let sending: ReturnType<typeof startSending> | undefined;
  // It isn't known before whether there is anything to send.
  const send = () => {
    if (!thins) sending ??= startSending(replication, log, AbortSignal.any([signal, given.signal]));
  };
  try {
    const level = PackingLevel.of(replication, { bytes, thins, patienceMs: PATIENCE_MS });
    const onGrown = () => {
      replication.activity.logBytes = log.written;
      refuseTooMuch(log.written, limit);
      send();
      level.look(log.written);
    };
    const items = allOf(changes, itemSize(readLimit));
    const paced = (work: Work) => pace.take(work, replication.readLimit);
    const options = { lanes, bytes, level: level.shared, known, signal: held, pace: paced, onGrown };
    const { learned, sameBytes: unchangedBytes } = await reader.pack(items, log, options);
    if (!mayBeEmpty && log.frames === 0) {
      await log.abandon(new Failure('internal', 'there was nothing to send'));
      return { ...NOTHING_CHANGED, instant, unchangedBytes };
    }
    const footer = await log.finish();
    replication.activity.logBytes = log.written;
    crashPoint('cycle:read');
    replication.completed(inFlight, footer, instant);
    send();
    return { instant, changedBytes: changedBytesOf(footer), unchangedBytes, learned, log, sending };
  } catch (error) {
    await giveUpLog(log, sending, given, error);
    throw error;
  }
}

function* allOf(changes: readonly (readonly ChangedExtent[])[], size: ItemSize): Generator<Work, void, undefined> {
  for (const [disk, extents] of changes.entries()) yield* workOf(disk, extents, size);
}

/** Ends a log that will not be finished, and its sending. */
export async function giveUpLog(
  log: GrowingLog,
  sending: ReturnType<typeof startSending> | undefined,
  given: AbortController,
  error: unknown,
): Promise<void> {
  given.abort(error);
  await log.abandon(error instanceof Error ? error : new Error(String(error)));
  await sending?.catch(() => undefined); // it failed because we gave up; `error` is the reason
}

function refuseTooMuch(bytes: number, limit: number): void {
  if (bytes <= limit) return;
  const mib = (count: number) => Math.ceil(count / 2 ** 20);
  throw new Failure('too-much-at-once', `${mib(bytes)} MiB don't fit the outbox, which may take ${mib(limit)} MiB now`);
}

/** Under a read limit a point would be given up in the middle; slices are made so that they end in time. */
function refuseTooLong(ms: number, openMs: number): void {
  if (ms <= openMs / 2) return;
  throw new Failure(
    'too-much-at-once',
    `the read limit makes ${Math.ceil(ms / 1000)} s of reading of what has changed`,
  );
}

/** About how long the log of these changes will be, by how the ones before came out; before the first, uncompressed. */
function estimate(replication: Replication, changes: readonly (readonly ChangedExtent[])[]): number {
  const { changedBytes, sentBytes, savedBytes } = replication.record.statistics;
  const data = changes.flat().filter(({ zero }) => !zero);
  const ratio = changedBytes === 0 ? 1 : Math.min(1, (sentBytes + savedBytes) / changedBytes);
  return totalLength(data) * ratio;
}
