/** A replica counts on from another position: its disks stay as they are, and older points stay reachable. */
import type { Gate } from '../lib/gate.ts';
import { Failure } from '../model/failure.ts';
import { samePosition, type Position } from '../model/relationship.ts';
import { describe, notFollowing } from './admission.ts';
import type { Inbox } from './inbox.ts';
import type { ReplicaLayout } from './layout.ts';
import type { RecordFile } from './record.ts';
import type { UndoChain } from './undo-chain.ts';
import { recordSameState } from './undo.ts';
import type { Views } from './views.ts';

export interface RebaseParts {
  readonly record: RecordFile;
  readonly inbox: Inbox;
  readonly chain: UndoChain;
  readonly layout: ReplicaLayout;
  readonly views: Views;
  readonly publishing: Gate;
}

/** While nothing is applied. Failures as of `Replica.rebase`. */
export async function rebase(start: Position, parts: RebaseParts): Promise<void> {
  const { record, inbox, chain, layout, views, publishing } = parts;
  const { applied, latest, id, disks } = record.value;
  if (inbox.waiting.length > 0) throw new Failure('busy', 'received logs are still being applied');
  const renamed = start.sequence === applied.sequence && (start.epoch > applied.epoch || samePosition(start, applied));
  if (!renamed && start.sequence <= applied.sequence) {
    throw notFollowing('repeated', `the primary wants to count from ${describe(start)}`, applied);
  }
  // Between the two names of the state lies an empty step back, so that the way to older points has no hole.
  const bridge = !renamed && (latest !== null || chain.points.length > 0);
  if (bridge) {
    const path = layout.undoLog(start.sequence);
    const request = { path, relationship: id, disks, follows: start, makes: applied, point: latest };
    const undo = await recordSameState(request);
    await publishing.run('publishing an undo log', async () => {
      chain.add(undo);
      await views.publish(undo);
    });
  }
  await record.update(({ epoch }) => ({
    start,
    applied: start,
    appliedLog: null,
    epoch: Math.max(epoch, start.epoch),
    latest: bridge ? null : latest,
  }));
  await inbox.rebase(start);
}
