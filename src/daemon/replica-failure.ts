/** What keeps a replica of this host from following its primary. */
import { Failure } from '../model/failure.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { DaemonServices } from './services.ts';

/** Undefined when nothing does, for a relationship that this host is the primary of, and in the middle of an action. */
export function replicaFailure(
  { actions, replicas }: Pick<DaemonServices, 'actions' | 'replicas'>,
  { id, role, vmName }: RelationshipRecord,
): Failure | undefined {
  if (role !== 'replica' || actions.journal.holder(id) !== undefined) return undefined;
  const replica = replicas.find(id);
  if (replica === undefined) {
    return (
      replicas.broken.get(id) ??
      new Failure('not-found', `the files of the replica of ${vmName} are gone`, {
        hint: 'Restore its directory and run `understudy replica rescan`, or remove the relationship and enable it anew.',
      })
    );
  }
  if (!replica.frozen) return replica.failure ?? undefined;
  return new Failure(
    'wrong-state',
    `the disks of the replica of ${vmName} are released for a failover that is not known`,
    {
      hint: 'Restore the state database from its latest backup: only it says which VM runs on which disks.',
    },
  );
}
