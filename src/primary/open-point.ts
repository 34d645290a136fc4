/**
 * Holds a point in time open while it is read, and watches it: while it is open, each first write of the guest to a cluster costs
 * it a copy, the scratch files grow, and when they can't grow any more QEMU pauses the guest. So a point is given up before that
 * happens, and after half a minute in any case; what it should have carried is sent in slices (`catch-up.ts`).
 */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { sleep } from '../lib/clock.ts';
import { roomAt } from '../lib/room.ts';
import { Failure } from '../model/failure.ts';
import type { OpenPointRequest, Point } from '../hypervisor/hypervisor.ts';
import { noticeSizes } from './disks.ts';
import type { Replication } from './replication.ts';
import { rescueGuest } from './rescue.ts';

export interface PointLimits {
  /** Most that the scratch files of one point may take, bytes. */
  readonly scratchBytes: number;
  /** What must stay free on their file system, bytes. */
  readonly reserveBytes: number;
  /** An open point is given up after this long, ms. */
  readonly openMs: number;
}

export const POINT_LIMITS: PointLimits = { scratchBytes: 16 * 2 ** 30, reserveBytes: 512 * 2 ** 20, openMs: 30_000 };

/** An event tells of a point that is open so long, ms. */
const ALARM_MS = 10_000;
const LOOK_EVERY_MS = 500;

/** Failure `too-much-at-once`: the point was given up. */
function givenUp(why: string): Failure {
  return new Failure('too-much-at-once', `the point in time was given up: ${why}`);
}

export interface PointRequest extends Pick<OpenPointRequest, 'since' | 'next'> {
  /** Since when it is due, ms of the steady clock: where many wait, the earliest is the next. */
  readonly due: number;
}

/**
 * When it is its turn: opens a point, lets `work` read it, and closes it whatever happens. `work`'s signal aborts when the point is
 * given up.
 */
export async function withPoint<T>(
  replication: Replication,
  { due, ...request }: PointRequest,
  signal: AbortSignal,
  work: (point: Point, signal: AbortSignal) => Promise<T>,
): Promise<{ result: T; jobMs: number }> {
  const place = replication.urgent ? Number.NEGATIVE_INFINITY : due;
  return await replication.services.points.run(place, signal, () => openPoint(replication, request, signal, work));
}

async function openPoint<T>(
  replication: Replication,
  request: Omit<PointRequest, 'due'>,
  signal: AbortSignal,
  work: (point: Point, signal: AbortSignal) => Promise<T>,
): Promise<{ result: T; jobMs: number }> {
  const { hypervisor } = replication.services;
  const { vmId, replicaPlaintext: plaintext = false } = replication.record;
  const began = performance.now();
  const point = await hypervisor.openPoint({ vmId, targets: replication.targets(), plaintext, ...request });
  const lost = new AbortController();
  const closed = new AbortController();
  const watch = watchPoint(replication, point, began, closed.signal, (failure) => lost.abort(failure));
  let failed = false;
  try {
    noticeAgent(replication, point);
    await noticeSizes(replication, point.exports);
    const result = await work(point, AbortSignal.any([signal, lost.signal]));
    return { result, jobMs: performance.now() - began };
  } catch (error) {
    failed = true;
    // Reading fails in its own words when the point is ended under it: what ended it is the reason.
    throw lost.signal.aborted ? lost.signal.reason : error;
  } finally {
    closed.abort();
    await watch;
    await hypervisor.closePoint(vmId);
    if (failed) await rescueGuest(replication);
  }
}

function noticeAgent(replication: Replication, { agentLost = false }: Point): void {
  const { vmName } = replication.record;
  if (agentLost && !replication.agentLost) {
    const text = `${vmName}: the guest agent was there and is not any more, so that the guest can't be asked to shut down. If it runs in the guest, libvirt has lost it: restart libvirtd (or virtqemud); guests run on meanwhile`;
    replication.services.event('warning', 'agent-lost', text);
  }
  replication.agentLost = agentLost;
}

async function watchPoint(
  replication: Replication,
  { scratchFiles }: Point,
  began: number,
  closed: AbortSignal,
  giveUp: (failure: Failure) => void,
): Promise<void> {
  const { pointLimits: limits, event } = replication.services;
  let alarmed = false;
  while (!closed.aborted) {
    const openMs = performance.now() - began;
    const usage = await usageOf(scratchFiles);
    if (closed.aborted) return;
    if (openMs > ALARM_MS && !alarmed) {
      alarmed = true;
      event(
        'warning',
        'job-long',
        `a backup job of ${replication.record.vmName} has been open for ${Math.round(openMs / 1000)} s`,
      );
    }
    const trouble = judgePoint({ openMs, ...usage }, limits);
    if (trouble !== undefined) return giveUp(givenUp(trouble));
    await sleep(LOOK_EVERY_MS, closed).catch(() => undefined); // closed meanwhile
  }
}

/** Why an open point must be given up; undefined while it needn't. Pure. */
export function judgePoint(
  now: { openMs: number; scratchBytes: number; freeBytes: number },
  limits: PointLimits,
): string | undefined {
  const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
  if (now.openMs > limits.openMs) return `it was open for ${Math.round(now.openMs / 1000)} s`;
  if (now.scratchBytes > limits.scratchBytes) return `its scratch files took ${mib(now.scratchBytes)}`;
  if (now.freeBytes < limits.reserveBytes) return `only ${mib(now.freeBytes)} are free for its scratch files`;
  return undefined;
}

async function usageOf(files: readonly string[]): Promise<{ scratchBytes: number; freeBytes: number }> {
  if (files.length === 0) return { scratchBytes: 0, freeBytes: Number.POSITIVE_INFINITY };
  let scratchBytes = 0;
  for (const file of files) {
    const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined; // the point is ending
      throw error;
    });
    scratchBytes += (found?.blocks ?? 0) * 512;
  }
  const { freeBytes } = await roomAt(dirname(files[0]!));
  return { scratchBytes, freeBytes };
}
