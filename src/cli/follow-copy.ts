import type { ReplicationState } from '../model/relationship.ts';
import { Failure } from '../model/failure.ts';
import { copyText, type Replication } from './replication-text.ts';
import type { Session } from './session.ts';

const COPYING = new Set<ReplicationState>([
  'ReadyForInitialReplication',
  'InitialReplicationInProgress',
  'WaitingForStartResynchronize',
  'Resynchronizing',
]);

/** Shows an initial copy or a comparison until it is complete, then the relationship. Throws what stops it for good. */
export async function followCopy(
  session: Session,
  begun: Replication,
  options: { wait: boolean },
): Promise<Replication> {
  const { client, output } = session;
  if (!options.wait) return begun;
  if (output.isLive) output.note(output.paint('dim', 'Ctrl-C stops watching; the copy goes on.'));
  for await (const now of client.stream('replicationWatch', { ref: begun.id })) {
    output.draw(`\r\x1b[K${copyText(now) || now.state}`);
    const isCancelled = now.state === 'WaitingForStartResynchronize' && now.resync?.begin === 'by-hand';
    if (!isCancelled && COPYING.has(now.state) && now.failure?.retry !== 'never') continue;
    output.draw('\r\x1b[K');
    if (now.failure !== null && now.failure.retry === 'never') throw Failure.fromJson(now.failure);
    return now;
  }
  throw new Failure('interrupted', 'The copy could not be followed to its end');
}
