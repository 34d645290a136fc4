/**
 * Finds out, after a start or a break, where both sides stand, and makes them agree: the replica's durable position
 * decides. Nothing is thrown away before it has been asked.
 */
import { Failure } from '../model/failure.ts';
import { samePosition } from '../model/relationship.ts';
import { judgePeer } from '../model/role.ts';
import { after } from '../model/state.ts';
import type { BitmapStatus } from '../hypervisor/hypervisor.ts';
import { beginCopy } from './copy.ts';
import { partDisks } from './leaving.ts';
import { prepareOf } from './prepare-of.ts';
import type { Replication } from './replication.ts';
import { rescueGuest } from './rescue.ts';
import { compareWhenAllowed } from './resync.ts';
import { changedBytesOf, type LogFooter } from '../deltalog/header.ts';
import type { Statistics } from '../store/store.ts';
import type { ReplicaStatus } from '../protocol/endpoint.ts';
import type { Sendable } from './outbox.ts';
import { sendLog, type SendProgress } from './send.ts';

/** Throws `stale-epoch` when the role is lost; `resync-required` when a comparison waits; `unreachable` and the like as they come. */
export async function reconcile(replication: Replication, signal: AbortSignal): Promise<void> {
  const { hypervisor, endpoint, outbox, event } = replication.services;
  const { vmId } = replication.record;
  // A cycle that failed although its log was whole has left it being sent.
  replication.endSending();
  await hypervisor.closePoint(vmId);
  if (replication.record.inFlight !== null) await rescueGuest(replication);
  const status = await endpoint.status(replication.id, signal);
  const judged = judgePeer(replication.record, status);
  if (judged === 'lost') {
    throw new Failure('stale-epoch', `${replication.record.peer} has taken the role over (epoch ${status.epoch})`);
  }
  if (judged === 'wait') {
    throw new Failure('busy', `${replication.record.peer} is not ready yet to be the Replica server`);
  }
  if (judged === 'adopt') replication.update({ epoch: status.epoch });
  if (status.suspended === true) {
    const { peer, vmName } = replication.record;
    throw new Failure('suspended', `replication of ${vmName} is paused on ${peer}, by an administrator of that host`);
  }
  // A replica that was restored from before a failover: it would refuse every log, and be the lower one in a failover of its own.
  if (status.epoch < replication.record.epoch) {
    const { peer, epoch } = replication.record;
    const text = `${peer} stands at epoch ${status.epoch}, expected ${epoch}: it is told so, and both sides are compared`;
    event('warning', 'replica-set-back', text);
    await endpoint.prepare({ ...prepareOf(replication.record), base: 'continue' });
  }

  // A log of an epoch that is over would be refused.
  const { inFlight, epoch, position } = replication.record;
  if (inFlight !== null) {
    const found = await outbox.find(inFlight.logId, inFlight.sequence);
    const makes = found?.footer.makes ?? inFlight.makes;
    const instant = found?.header.point?.instant ?? inFlight.instant;
    const whole = { ...inFlight, instant };
    if (makes !== null && makes !== undefined && samePosition(status.received, makes)) {
      await replication.acknowledged(whole, makes, counted(replication, found?.footer));
    } else if (found?.header.epoch === epoch && samePosition(status.received, position)) {
      const progress: SendProgress = { sent: 0, resent: 0, breaks: 0 };
      const answer = await sendFound(replication, found.log, progress, signal);
      if (answer === undefined) await replication.discard(inFlight);
      else await replication.acknowledged(whole, answer.received, counted(replication, found.footer, progress));
    } else {
      await replication.discard(inFlight);
    }
  }
  await settle(replication, signal);
}

/**
 * Sends a log of an earlier run. Undefined when the replica finds it damaged: the outbox isn't synced, so that a power loss may
 * have left a hole in it, which sending again doesn't heal.
 */
async function sendFound(
  replication: Replication,
  log: Sendable,
  progress: SendProgress,
  signal: AbortSignal,
): Promise<ReplicaStatus | undefined> {
  replication.activity = { ...replication.activity, phase: 'sending', send: progress };
  const damaged = new AbortController();
  const onTrouble = (failure: Failure | undefined) => {
    replication.trouble(failure);
    if (failure?.code === 'bad-log') damaged.abort(failure);
  };
  try {
    return await sendLog(replication.services.endpoint, log, {
      relationship: replication.id,
      fresh: false,
      intervalSeconds: replication.record.intervalSeconds,
      signal: AbortSignal.any([signal, damaged.signal]),
      progress,
      wake: replication.wake,
      onTrouble,
      onSent: (sent) => (replication.lastSent = sent),
    });
  } catch (error) {
    if (damaged.signal.aborted && !signal.aborted) return undefined;
    throw error;
  }
}

/** The statistics with a log of an earlier run; what that run sent of it isn't known any more. */
function counted(
  replication: Replication,
  footer: LogFooter | undefined,
  progress: SendProgress = { sent: 0, resent: 0, breaks: 0 },
): Partial<Statistics> {
  const { statistics, inFlight } = replication.record;
  const changed = footer === undefined ? 0 : changedBytesOf(footer);
  return {
    cycles: statistics.cycles + (inFlight?.nextBitmap === null ? 0 : 1),
    changedBytes: statistics.changedBytes + changed,
    ...replication.sentBy(progress),
  };
}

/** Without a log in flight: is the replica where we think, and is there a bitmap since then? If not, compare. */
async function settle(replication: Replication, signal: AbortSignal): Promise<void> {
  await partDisks(replication); // one that is gone has no bitmap
  const { hypervisor, endpoint, event } = replication.services;
  const { vmId, vmName, position, copy, bitmap, peer, state } = replication.record;
  const { received } = await endpoint.status(replication.id, signal);
  const bitmaps = await hypervisor.listBitmaps(vmId, replication.targets());
  const needed = [bitmap, copy?.since ?? null].filter((name) => name !== null);
  for (const { name } of bitmaps) {
    if (name.startsWith(replication.bitmapPrefix) && !needed.includes(name)) await hypervisor.dropBitmap(vmId, name);
  }
  const lost = bitmap === null ? `no bitmap says what has changed on ${vmName}` : whyLost(needed, bitmaps);
  if (!samePosition(received, position)) {
    const stands = `${peer} stands at log ${received.sequence} of epoch ${received.epoch}`;
    const isOther = received.sequence === position.sequence && received.epoch === position.epoch;
    const reason = isOther
      ? `${stands}, but not in the state that was sent: it was restored, had to make a disk anew, or follows another history`
      : `${stands}, expected ${position.sequence} of ${position.epoch}: it was restored, or follows another history`;
    await compareWhenAllowed(replication, received, reason);
  } else if (lost === undefined) {
    // What was in the way has gone by itself: a replica that was set back has been set forward again.
    if (state !== 'WaitingForStartResynchronize') return;
    event('info', 'resync-unneeded', `${vmName} and its replica on ${peer} agree again: nothing has to be compared`);
    if (copy === null) replication.update(after(replication.record, 'point-made'));
    else replication.update(after(replication.record, copy.mode === 'compare' ? 'compare-begun' : 'fell-behind'));
  } else if (bitmap === null && copy === null && state === 'ReadyForInitialReplication') {
    await beginCopy(replication, 'empty');
  } else {
    // A copy onto empty disks that lost its bitmap may have sent blocks that have become zeros since: compare too.
    await compareWhenAllowed(replication, position, lost);
  }
}

/** Why what has changed isn't known by these bitmaps; undefined where it is. */
function whyLost(needed: readonly string[], bitmaps: readonly BitmapStatus[]): string | undefined {
  for (const wanted of needed) {
    const found = bitmaps.find(({ name }) => name === wanted);
    if (found === undefined) return `the change bitmap ${wanted} is gone from all disks`;
    if (!found.usable) return `the change bitmap ${wanted} can't be relied on: ${found.why ?? 'a disk lacks it'}`;
  }
  return undefined;
}
