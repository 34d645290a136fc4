import { DEFAULT_AUTO_RESYNC } from '../model/auto-resync.ts';
import type { RelationshipRecord } from '../store/store.ts';

/** What the peer has to know of a relationship. */
export function prepareOf(record: RelationshipRecord) {
  const {
    id,
    vmId,
    vmName,
    definition,
    definitionPolicy,
    epoch,
    intervalSeconds,
    history,
    thin = [],
    autostart,
    leaseSeconds = 0,
    autoResync = DEFAULT_AUTO_RESYNC,
  } = record;
  const disks = record.disks.map(({ target, size }) => ({ target, size }));
  const settings = { intervalSeconds, history, thin, autostart, leaseSeconds, autoResync };
  // Only where somebody has set it: a Replica server of an older version doesn't know the word.
  const policy = definitionPolicy === undefined ? {} : { definitionPolicy };
  return { id, vmId, vmName, definition, ...policy, disks, epoch, ...settings };
}
