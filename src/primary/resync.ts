/** A comparison has become necessary: it begins, or waits for what the relationship's setting says (model/auto-resync.ts). */
import { Failure } from '../model/failure.ts';
import { needOf, resyncFrom, type ResyncNeed } from '../model/auto-resync.ts';
import type { Position } from '../model/relationship.ts';
import { after } from '../model/state.ts';
import { beginCopy } from './copy.ts';
import type { Replication } from './replication.ts';

/**
 * Begins a comparison from where the replica stands, if it may begin now. Otherwise it is remembered that it is due, with the reason in
 * words; bitmaps stay, and the guest isn't touched. Failure `resync-required` then: whoever asks again later may find that both sides agree.
 */
export async function compareWhenAllowed(replication: Replication, received: Position, reason: string): Promise<void> {
  const { services, record } = replication;
  const before = needOf(record);
  // What a person has asked for, or cancelled, keeps its reason.
  const need: ResyncNeed =
    before !== undefined && before.begin !== 'by-policy' ? before : { reason, begin: 'by-policy' };
  const now = services.now();
  const from = resyncFrom({ ...record, resync: need }, now);
  if (from !== null && from <= now) {
    const isAsked = need.begin === 'at-once' && record.state === 'WaitingForStartResynchronize';
    if (!isAsked) services.event('warning', 'comparing', `${reason}: comparing both sides`);
    replication.update({ resync: need });
    return await beginCopy(replication, 'compare', received);
  }
  const when =
    from === null ? 'it begins when somebody asks for it' : `it begins at ${new Date(from).toLocaleString()}`;
  const text = `both sides of ${record.vmName} have to be compared: ${need.reason}; ${when}`;
  if (record.state !== 'WaitingForStartResynchronize' || before?.reason !== need.reason) {
    services.event('critical', 'resync-required', text);
    replication.update({ resync: need, failure: null, ...after(record, 'resync-wanted') });
  }
  // Without a bitmap a comparison that was under way can't go on, also when a slice of it was acknowledged after all.
  if (record.bitmap === null && record.copy !== null) replication.update({ copy: null });
  throw new Failure('resync-required', text);
}
