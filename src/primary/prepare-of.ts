import type { RelationshipRecord } from '../store/store.ts';

/** What the peer has to know of a relationship. */
export function prepareOf(record: RelationshipRecord) {
  const {
    id,
    vmId,
    vmName,
    definition,
    epoch,
    intervalSeconds,
    history,
    thin = [],
    autostart,
    leaseSeconds = 0,
  } = record;
  const disks = record.disks.map(({ target, size }) => ({ target, size }));
  return { id, vmId, vmName, definition, disks, epoch, intervalSeconds, history, thin, autostart, leaseSeconds };
}
