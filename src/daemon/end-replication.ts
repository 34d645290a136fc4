import { Failure } from '../model/failure.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { DaemonServices } from './services.ts';

/** Ends a relationship, here and on the peer. Failure `wrong-state` while a failover of it isn't over. */
export async function endReplication(
  { actions }: DaemonServices,
  record: RelationshipRecord,
  { keepDisks }: { readonly keepDisks: boolean },
): Promise<void> {
  requireDecided(record);
  await actions.finish('remove-replication', record.id, { keepDisks, tellPeer: true });
}

/** Failure `wrong-state` while a failover of it isn't over: the VM runs from what would go, whoever asks for that. */
export function requireDecided({ role, state, vmName }: RelationshipRecord): void {
  if (role === 'replica' && state === 'RecoveryInProgress') {
    throw new Failure('wrong-state', `a failover of ${vmName} is under way`);
  }
  if (state === 'FailedOverWaitingCompletion') {
    throw new Failure('wrong-state', `the failover of ${vmName} is neither completed nor cancelled`, {
      hint: 'Complete or cancel it first: understudy failover complete|cancel',
    });
  }
}
