/** Finding a relationship by what a person calls it. */
import { Failure } from '../model/failure.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { DaemonServices } from './services.ts';

/** By its id, or by name or id of its VM. Failures: `not-found`; `bad-request` when several fit. */
export function findRelationship(services: DaemonServices, ref: string): RelationshipRecord {
  const all = services.store.relationships();
  const exact = all.find(({ id }) => id === ref);
  if (exact !== undefined) return exact;
  const fitting = all.filter(({ vmId, vmName }) => vmName === ref || vmId === ref.toLowerCase());
  if (fitting.length === 1) return fitting[0]!;
  if (fitting.length === 0) throw new Failure('not-found', `no replication relationship of ${ref} on this host`);
  const ids = fitting.map(({ id, peer }) => `${id} (with ${peer})`).join(', ');
  throw new Failure('bad-request', `${ref} has several relationships: ${ids}`, { hint: 'Name one by its id.' });
}
