import { Failure } from '../model/failure.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { DaemonServices } from './services.ts';

/** Ends a relationship, here and on the peer. Failure `wrong-state` while a failover of it isn't over. */
export async function endReplication(
  { actions }: DaemonServices,
  { id, role, state, vmName }: RelationshipRecord,
  { keepDisks }: { readonly keepDisks: boolean },
): Promise<void> {
  if (role === 'replica' && state === 'RecoveryInProgress') {
    throw new Failure('wrong-state', `a failover of ${vmName} is under way`);
  }
  if (state === 'FailedOverWaitingCompletion') {
    throw new Failure('wrong-state', `the failover of ${vmName} is neither completed nor cancelled`, {
      hint: 'Complete or cancel it first: understudy failover complete|cancel',
    });
  }
  await actions.finish('remove-replication', id, { keepDisks, tellPeer: true });
}
