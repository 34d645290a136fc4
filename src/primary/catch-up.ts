/**
 * Catching up: more has changed than fits one log (the outbox is capped) or one short job. What has changed since the last
 * acknowledged point goes in slices, as in a copy: a new bitmap is started first, each slice reads a part of what the old bitmap
 * knows, and one closing cycle, an increment since the new bitmap, makes a point of it. Older points stay usable all the while.
 */
import { randomBytes } from 'node:crypto';
import type { Failure } from '../model/failure.ts';
import { nextPresent } from '../model/shape.ts';
import { after } from '../model/state.ts';
import type { Replication } from './replication.ts';

export async function beginCatchUp(replication: Replication, why: Failure): Promise<void> {
  const { hypervisor, event } = replication.services;
  const { vmId, vmName, bitmap, copy, position } = replication.record;
  if (bitmap === null) throw why;
  const next = `${replication.bitmapName(position.sequence)}-${randomBytes(3).toString('hex')}`;
  await hypervisor.startBitmap(vmId, replication.targets(), next);
  // What the bitmap of an earlier copy knew has been sent: the one that was to close it takes its place.
  replication.update({
    bitmap: next,
    copy: {
      mode: 'changed',
      since: bitmap,
      disk: nextPresent(replication.record.disks, 0),
      offset: 0,
      blocksCompared: 0,
      blocksDifferent: 0,
    },
    ...after(replication.record, 'fell-behind'),
  });
  const sent = copy?.since ?? null;
  if (sent !== null) await hypervisor.dropBitmap(vmId, sent);
  event('warning', 'catching-up', `${vmName}: ${why.message}; what has changed is sent in slices`);
}
