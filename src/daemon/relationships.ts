/** Finding a relationship by what a person calls it, and whether it may be changed now. */
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

/** The same on the host that the VM runs on. Failure `wrong-role` on the other. */
export function findPrimary(services: DaemonServices, ref: string): RelationshipRecord {
  const record = findRelationship(services, ref);
  if (record.role === 'primary') return record;
  throw new Failure('wrong-role', `${record.vmName} runs on ${record.peer}; ask there`);
}

/** Nothing may change a relationship in the middle of an action: Failure `busy`. */
export function requireIdle({ actions }: DaemonServices, record: RelationshipRecord): RelationshipRecord {
  const holder = actions.journal.holder(record.id);
  if (holder === undefined) return record;
  throw new Failure('busy', `${holder.kind} of ${record.vmName} is under way`);
}
