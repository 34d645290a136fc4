/**
 * One replication cycle: all disks at one instant, what changed since the last acknowledged position, sent, acknowledged.
 */
import { crashPoint } from '../lib/crash-point.ts';
import type { ChangedExtent } from '../model/extent.ts';
import type { RecoveryPoint } from '../model/relationship.ts';
import { after } from '../model/state.ts';
import type { Point } from '../hypervisor/hypervisor.ts';
import type { LogInFlight } from '../store/store.ts';
import { PointReader } from './capture.ts';
import type { GrowingLog } from './outbox.ts';
import type { Replication } from './replication.ts';
import { sendLog } from './send.ts';

export interface CycleResult {
  readonly idle: boolean;
  readonly instant: number;
  readonly changedBytes: number;
  readonly sentBytes: number;
  readonly jobMs: number;
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
  const { hypervisor, now, endpoint } = replication.services;
  const { vmId, bitmap, position } = replication.record;
  const started = now();
  replication.enter('reading');
  const inFlight = replication.intend({ nextBitmap: replication.bitmapName(position.sequence + 1), copyAfter: null });
  let result: Captured | undefined;
  try {
    crashPoint('cycle:intended');
    const point = await hypervisor.openPoint({
      vmId,
      targets: replication.targets(),
      since: bitmap,
      next: inFlight.nextBitmap,
    });
    crashPoint('cycle:opened');
    result = await capture(replication, inFlight, point, kind, signal);
  } catch (error) {
    // A whole log may be at the replica already: then only `reconcile` can tell what it is worth.
    if (replication.record.inFlight?.makes === null) await replication.discard(inFlight);
    throw error;
  }
  const jobMs = result.jobMs;
  const { statistics } = replication.record;
  if (result.sending === undefined) {
    await replication.discard(inFlight);
    await endpoint.confirm(replication.id, position, result.instant);
    replication.update({
      protectedUntil: result.instant,
      failure: null,
      ...after(replication.record, 'point-made'),
    });
    replication.count({ idleCycles: statistics.idleCycles + 1, ...lastOf(0, 0, jobMs, now() - started) });
    replication.enter('waiting');
    return { idle: true, instant: result.instant, changedBytes: 0, sentBytes: 0, jobMs };
  }
  replication.enter('sending');
  crashPoint('cycle:closed');
  const status = await result.sending;
  crashPoint('cycle:acknowledged');
  await replication.acknowledged(replication.record.inFlight!, status.received);
  const { send, logBytes } = replication.activity;
  replication.count({
    cycles: statistics.cycles + 1,
    changedBytes: statistics.changedBytes + result.changedBytes,
    sentBytes: statistics.sentBytes + send.sent,
    resentBytes: statistics.resentBytes + send.resent,
    ...lastOf(result.changedBytes, send.sent, jobMs, now() - started),
  });
  replication.enter('waiting');
  return { idle: false, instant: result.instant, changedBytes: result.changedBytes, sentBytes: logBytes, jobMs };

  function lastOf(lastChangedBytes: number, lastSentBytes: number, lastJobMs: number, lastCycleMs: number) {
    const maxJobMs = Math.max(statistics.maxJobMs, lastJobMs);
    return { lastChangedBytes, lastSentBytes, lastJobMs, maxJobMs, lastCycleMs };
  }
}

interface Captured {
  readonly instant: number;
  readonly changedBytes: number;
  readonly jobMs: number;
  /** Undefined when nothing had changed: then there is no log. */
  readonly sending: ReturnType<typeof sendLog> | undefined;
}

/** Reads the open point and closes it, whatever happens; sending begins meanwhile and goes on after. */
async function capture(
  replication: Replication,
  inFlight: LogInFlight,
  point: Point,
  kind: RecoveryPoint['kind'],
  signal: AbortSignal,
): Promise<Captured> {
  const { hypervisor, outbox, compression } = replication.services;
  const { vmId, epoch, copy } = replication.record;
  const opened = performance.now();
  let log: GrowingLog | undefined;
  let sending: ReturnType<typeof sendLog> | undefined;
  const given = new AbortController();
  try {
    let changedBytes = 0;
    {
      await using reader = await PointReader.connect(point, replication.targets());
      for (const disk of replication.targets().keys()) {
        const extents: ChangedExtent[] = await reader.changed(disk, 0, reader.size(disk));
        // The cycle that closes a copy makes the point, even when nothing changed since the copy began.
        if (extents.length === 0 && copy === null) continue;
        if (log === undefined) {
          const { sequence } = inFlight;
          const { instant } = point;
          const header = replication.header(inFlight, { sequence, epoch, instant, confirmed: instant, kind });
          log = await outbox.begin(header, compression);
          sending = startSending(replication, log, AbortSignal.any([signal, given.signal]));
        }
        await reader.copy(disk, extents, log.writer, signal);
        crashPoint('cycle:reading');
        replication.activity.logBytes = log.writer.written;
      }
    }
    if (log !== undefined) {
      const footer = await log.finish();
      changedBytes = footer.dataBytes + footer.zeroBytes;
      replication.activity.logBytes = log.writer.written;
      crashPoint('cycle:read');
      replication.completed(inFlight, footer, point.instant);
    }
    await hypervisor.closePoint(vmId);
    return { instant: point.instant, changedBytes, jobMs: performance.now() - opened, sending };
  } catch (error) {
    given.abort(error);
    await log?.abandon(error instanceof Error ? error : new Error(String(error)));
    await sending?.catch(() => undefined); // it failed because we gave up; `error` is the reason
    throw error;
  }
}

/** Starts sending at once; its failure is looked at where the log's fate is decided, not before. */
export function startSending(
  replication: Replication,
  log: GrowingLog,
  signal: AbortSignal,
): ReturnType<typeof sendLog> {
  const { endpoint } = replication.services;
  const progress = { sent: 0, resent: 0, breaks: 0 };
  replication.activity = { ...replication.activity, send: progress, logBytes: 0 };
  const sending = sendLog(endpoint, log, {
    relationship: replication.id,
    fresh: true,
    intervalSeconds: replication.record.intervalSeconds,
    signal,
    progress,
    onTrouble: (failure) => replication.trouble(failure),
  });
  sending.catch(() => undefined); // awaited later; until then it is not "unhandled"
  return sending;
}
