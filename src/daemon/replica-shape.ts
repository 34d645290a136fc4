/** What this host remembers of a replica's disks follows the replica, whose logs change them. */
import { sameShape } from '../model/shape.ts';
import type { LocalDisk, Store } from '../store/store.ts';

/** Does nothing while the VM runs here, on disks of a recovery point, or where nothing has changed. */
export function noteShape(store: Store, id: string, disks: readonly LocalDisk[]): void {
  const record = store.relationship(id);
  if (record?.role !== 'replica' || record.failover !== null || sameShape(record.disks, disks)) return;
  const named = (those: readonly LocalDisk[]): string => those.map(({ target }) => target).join();
  const isOther = named(disks) !== named(record.disks);
  const { definitionTaken: taken } = record;
  // What the definition says of a disk that is new here was left out when it was taken.
  const again = isOther && taken !== undefined ? { definitionTaken: { ...taken, again: true } } : {};
  store.putRelationship({ ...record, disks, ...again });
}
